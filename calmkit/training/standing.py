"""Standing: where a process stands, in a small file that others read while it works.

Only the standard library is imported, so that a process can say that it starts before torch is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

EVERY = 1.0
"""Seconds between two writings at least, while a phase goes on."""

STARTING = "starting"


@final
@dataclass(frozen=True)
class Standing:
    """Where a process stands.

    Attributes:
        phase: What it does, such as `lm`, the second stage, or `evaluation`.
        unit: What its parts are: `step`, `row`; empty where there are none.
        done: So many of them.
        total: Of so many; None where that is not known beforehand.
        loss: Of the last training step; None outside of training.
        scores: Of the last validation of the phase, by name.
        words: `done` and `total` otherwise, where a person reads that better, such as megabytes.
        phase_seconds: Since the phase began.
        seconds: Since the process began.
        over: The phases before this one.
    """

    phase: str = STARTING
    unit: str = ""
    done: int = 0
    total: int | None = None
    loss: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    words: str = ""
    phase_seconds: float = 0.0
    seconds: float = 0.0
    over: Sequence[str] = ()

    @property
    def fraction(self) -> float:
        """Of the phase that is done, 0 to 1; 0 where the total is not known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else 0.0

    @property
    def place(self) -> str:
        """`step 120/420`; empty where the phase has no parts."""
        if self.words or not self.unit:
            return self.words
        return f"{self.unit} {self.done}" + (f"/{self.total}" if self.total is not None else "")


@final
class StandingFile:
    """Writes a process's standing, at most every second, or when its phase changes; `seconds` and `over` are
    filled in.

    What can't be written is left out: to be watched is no reason to fail.

    Args:
        path: Of the file; its folder is made where there is none. None: nothing is written.
        clock: Seconds, from any zero.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.clock = path, clock
        self._began = self._written = clock()
        self._phase = ""
        self._over: list[str] = []

    def write(self, standing: Standing) -> None:
        """Write it if it is time."""
        now = self.clock()
        if self._phase and standing.phase != self._phase:
            self._over.append(self._phase)
        if self.path is None or (standing.phase == self._phase and now - self._written < EVERY):
            return
        self._phase, self._written = standing.phase, now
        told = replace(standing, scores=dict(standing.scores), seconds=now - self._began, over=self._over)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(asdict(told)), encoding="utf-8")
            temporary.replace(self.path)


def read_standing(path: Path) -> Standing | None:
    """What a process last wrote; None where there is nothing, or nothing that can be understood."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        standing = Standing(**found)
    except (OSError, ValueError, TypeError):
        return None
    numbers = [standing.done, standing.phase_seconds, standing.seconds, *_optional(standing)]
    words: list[Any] = [standing.phase, standing.unit, standing.words]
    words += standing.over if isinstance(standing.over, list) else [None]
    sound = all(isinstance(n, int | float) for n in numbers) and all(isinstance(w, str) for w in words)
    return standing if sound else None


def _optional(standing: Standing) -> list[Any]:
    scores = standing.scores.values() if isinstance(standing.scores, dict) else [None]
    return [value for value in (standing.total, standing.loss) if value is not None] + list(scores)
