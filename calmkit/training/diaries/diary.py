"""Diary: a library that keeps the numbers of a run, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

GoesOn = Callable[[str], int | None]
"""Of a group of metrics such as `lm/train`: the first step that is written again; None: none is."""


@final
@dataclass(frozen=True)
class Point:
    """What a run logs at once.

    Attributes:
        group: Of its metrics: stage and what it does, such as `lm/train`.
        step: As in `metrics.csv`, counted in each stage from 0.
        metrics: By their whole names.
        seconds: When, since 1970.
        number: Of the points that this diary was given, counted over both stages and all starts from 1.
    """

    group: str
    step: int
    metrics: Mapping[str, float]
    seconds: float
    number: int = 0

    @property
    def stage(self) -> str:
        """Of the training."""
        return self.group.partition("/")[0]


@final
@dataclass(frozen=True)
class About:
    """What there is to know of a run before its first point.

    Attributes:
        folder: Of the run, absolute.
        name: Of the recipe.
        recipe: All its values.
        text: The recipe as a file.
        goes_on: Where each group of metrics goes on.
    """

    folder: Path
    name: str
    recipe: Mapping[str, Any]
    text: str
    goes_on: GoesOn


class Diary(ABC):
    """A library that keeps the numbers of a run; the first process alone opens it.

    Any of its methods may fail in any way: whoever calls it goes on without it.
    """

    live: ClassVar[bool] = False
    """Whether points can be taken back. A diary that can gets each at once, the others when it is kept."""

    @abstractmethod
    def begin(self, about: About, kept: Mapping[str, Any]) -> Mapping[str, Any]:
        """Open it.

        Args:
            about: The run, whose recipe becomes the hyper-parameters.
            kept: What this method gave at an earlier start; empty for a run that begins, or is live.

        Returns:
            Texts by which the same run is found again.
        """

    @abstractmethod
    def write(self, points: Sequence[Point]) -> None:
        """Take points, in their order."""

    @abstractmethod
    def flush(self) -> None:
        """Bring to the disk what was taken."""

    @abstractmethod
    def finish(self, numbers: Mapping[str, float], step: int) -> None:
        """Take the numbers of the end, measured behind so many steps."""

    @abstractmethod
    def close(self, ended: str) -> None:
        """Let go of it: `done`, `stopped` or `failed`."""
