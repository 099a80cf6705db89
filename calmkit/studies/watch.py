"""Watch: looks after the processes of a study while they run, and has a display show them.

Each process keeps where it stands in a file beside its log, `progress.json`. To look there works wherever a
launcher runs it, and costs the process nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from calmkit.studies.board import Board, Running
from calmkit.studies.display import Display
from calmkit.studies.time_left import Share, pace_of, seconds_left, seconds_left_of
from calmkit.training.standing import read_standing

POLL = 1.0
"""Seconds between two looks."""

PROGRESS = "progress.json"
"""The file of a process, in its `.work` folder."""


@dataclass(frozen=True)
class Watched:
    """A process of a study.

    Attributes:
        name: Of its job.
        file: Where it keeps its standing.
        stages: Phase -> FLOPs.
        counts: Whether it is one of those that are counted: a trial.
    """

    name: str
    file: Path
    stages: Mapping[str, float]
    counts: bool = True


@final
class Watch:
    """Looks after the processes of a study.

    Args:
        batches: One after the other: processes that are open, and how many of them run at once.
        display: Shows what is seen.
        what: What is counted: `trials done`.
        done: How many were done before.
        clock: Seconds, from any zero.
    """

    def __init__(
        self,
        batches: Sequence[tuple[Sequence[Watched], int]],
        display: Display,
        what: str = "trials done",
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.batches, self.display, self.what, self.clock = batches, display, what, clock
        self._every = {one.name: one for works, _ in batches for one in works}
        self._shares = {name: Share(one.stages) for name, one in self._every.items()}
        self._active: list[str] = []
        self._lock = threading.Lock()  # of what is known of the shares: a look has a thread of its own
        self.done, self.failed, self.began = done, 0, clock()
        self.total = done + sum(one.counts for one in self._every.values())

    @contextmanager
    def over(self, names: Sequence[str], poll: float = POLL) -> Iterator[None]:
        """While these run, look every second, from a thread of its own."""
        self._active = [name for name in names if name in self._every]
        stop = threading.Event()

        def watch() -> None:
            with contextlib.suppress(OSError):  # standard output was closed: the study goes on
                while not stop.wait(poll):
                    self.display.show(self.look())

        thread = threading.Thread(target=watch, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._active = []
            with contextlib.suppress(OSError):
                self.display.clear()

    def ended(self, name: str, well: bool, seconds: float | None = None) -> None:
        """A process is over.

        Args:
            name: Of its job.
            well: Whether it did what it should.
            seconds: What it took; None: as it told last.
        """
        one = self._every[name]
        if seconds is None:
            standing = read_standing(one.file)
            seconds = standing.seconds if standing else 0.0
        with self._lock:
            self._shares[name] = replace(self._shares[name], ended=True, seconds=seconds if well else 0.0)
            self.done += well and one.counts
            self.failed += not well

    def look(self) -> Board:
        """What all of them are doing now."""
        with self._lock:
            for name in self._active:
                if not self._shares[name].ended:
                    standing = read_standing(self._every[name].file)
                    self._shares[name] = replace(self._shares[name], standing=standing)
            shares, done, failed = dict(self._shares), self.done, self.failed
        pace = pace_of(shares.values())
        running = tuple(
            Running(name, share.standing, seconds_left_of(share, pace))
            for name in self._active
            if (share := shares[name]).standing is not None and not share.ended
        )
        batches = [([shares[one.name] for one in works], at_once) for works, at_once in self.batches]
        elapsed = self.clock() - self.began
        left = seconds_left(batches)
        return Board(running, self.what, done, self.total, failed, elapsed, left)
