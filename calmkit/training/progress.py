"""Progress: where a process stands, shown to a person and kept in a file for programs that watch.

A person sees a bar in a terminal and plain lines elsewhere; `calmkit.training.callbacks` tells of a trainer's
steps and rows.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, final

from lightning.pytorch.utilities import rank_zero_only

from calmkit.training.shown import Bar, Lines, Shown
from calmkit.training.standing import Standing, StandingFile

Say = Any
"""A function of one line of text: `print`, or a console's."""


def quiet_libraries() -> None:
    """Silence what Lightning says about itself: advice on loaders, sizes of tables, advertisements."""
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning",
        "pytorch_lightning",
        "lightning.pytorch.utilities",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*GPU available but not used.*",  # the recipe asks for the CPU
        ".*does not have many workers.*",
        ".*Experiment logs directory.*",
        ".*exists and is not empty.*",
        ".*The number of training batches.*",
        ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
        ".*lr_scheduler.step.* before .*optimizer.step.*",
        ".*You have overridden `.*configure_gradient_clipping`.*",
        ".*sync_dist=True.*",
        ".*module.s. in eval mode at the start of training.*",  # the frozen autoencoder
        ".*Trying to infer the `batch_size`.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def said_once(say: Say) -> Say:
    """`say` in rank 0; silence in the other processes."""
    return rank_zero_only(say)


def say_nothing(line: str) -> None:
    """For callers who want no lines."""


@final
class Progress:
    """Where a process stands, phase after phase; in processes of other ranks than 0 nothing is told.

    Args:
        say: Takes plain lines.
        file: Takes the standing, for programs that watch; None: nobody does.
        clock: Seconds, from any zero.
        terminal: Whether a person looks at standard error; None: if it is a terminal. A bar is drawn then.
    """

    def __init__(
        self,
        say: Say = say_nothing,
        file: StandingFile | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        terminal: bool | None = None,
    ) -> None:
        self.say, self.file, self.clock = say, file or StandingFile(None), clock
        self.terminal = sys.stderr.isatty() if terminal is None else terminal

    @classmethod
    def silent(cls) -> Progress:
        """One that nobody looks at."""
        return cls(terminal=False)

    def begin(
        self, name: str, *, unit: str = "", total: int | None = None, lines: int = 0, announce: bool = False
    ) -> Phase:
        """Begin a phase.

        Args:
            name: As lines begin.
            unit: What its parts are called.
            total: How many there are; None: not known.
            lines: How many plain lines there are at least, evenly spaced; more where it takes long.
            announce: Whether a plain line tells that it begins.
        """
        standing = Standing(name, unit, total=total)
        if getattr(rank_zero_only, "rank", 0) != 0:
            return Phase(standing, None, StandingFile(None), self.clock)
        shown: Shown = Bar(keep=lines > 0) if self.terminal else Lines(self.say, lines, announce)
        return Phase(standing, shown, self.file, self.clock)

    @contextmanager
    def phase(self, name: str, *, unit: str = "", total: int | None = None) -> Iterator[Phase]:
        """A phase that lasts as long as the context; one without parts has a plain line as it begins, for it
        has no other.
        """
        phase = self.begin(name, unit=unit, total=total, announce=total is None)
        try:
            yield phase
        finally:
            phase.end()


@final
class Phase:
    """A stretch of work of one kind; made by `Progress`."""

    def __init__(
        self, standing: Standing, shown: Shown | None, file: StandingFile, clock: Callable[[], float]
    ) -> None:
        self._standing, self._shown, self._file, self._clock = standing, shown, file, clock
        self._began = clock()
        file.write(standing)
        if shown is not None:
            shown.begin(standing)

    def at(self, done: int, *, loss: float | None = None, words: str = "") -> None:
        """So much is done."""
        self._told(done=done, loss=loss, words=words)
        if self._shown is not None:
            self._shown.at(self._standing)

    def scored(self, scores: Mapping[str, float]) -> None:
        """What a validation on the way found."""
        self._told(scores=scores)
        if self._shown is not None:
            self._shown.scored(self._standing)

    def end(self) -> None:
        """It is over, in whatever way; a second call does nothing."""
        if self._shown is not None:
            self._shown.end()
        self._shown = None

    def _told(self, **changes: Any) -> None:
        seconds = self._clock() - self._began
        self._standing = replace(self._standing, phase_seconds=seconds, **changes)
        self._file.write(self._standing)
