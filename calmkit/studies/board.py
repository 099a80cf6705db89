"""Board: what a study is doing at one moment, as a person is shown it."""

from __future__ import annotations

from dataclasses import dataclass

from calmkit.training.pace import time_in_words
from calmkit.training.standing import Standing

MOST = 4
"""Processes that one plain line tells of."""


@dataclass(frozen=True)
class Running:
    """A process that runs.

    Attributes:
        name: Of the trial.
        standing: Where it stands.
        left: Seconds that it still takes; None where that is not known yet.
    """

    name: str
    standing: Standing
    left: float | None = None

    @property
    def doing(self) -> str:
        """`lm 120/420`."""
        place = self.standing.place.removeprefix(f"{self.standing.unit} ")
        return f"{self.standing.phase} {place}".rstrip()

    @property
    def loss(self) -> str:
        """Of the last step; empty outside of training."""
        return "" if self.standing.loss is None else f"{self.standing.loss:.4g}"

    @property
    def held_out(self) -> str:
        """`score 3.2`; empty before the first validation."""
        return " ".join(f"{name} {value:.4g}" for name, value in self.standing.scores.items())

    @property
    def best(self) -> str:
        """The scores in short: without the loss, where there are others."""
        scores = {name: value for name, value in self.standing.scores.items() if name != "loss"}
        return " ".join(f"{name} {value:.4g}" for name, value in (scores or self.standing.scores).items())

    def words(self) -> str:
        """What it does, the loss, the scores."""
        loss = f"loss {self.loss}" if self.loss else ""
        held_out = f"held out {self.held_out}" if self.held_out else ""
        doing = f"{self.standing.phase} {self.standing.place}".rstrip()
        return ", ".join(filter(None, (doing, loss, held_out)))


@dataclass(frozen=True)
class Board:
    """What a study is doing.

    Attributes:
        running: The processes that run.
        what: What is counted: `trials done`.
        done: So many.
        total: Of so many.
        failed: Processes that failed since it was begun.
        elapsed: Seconds since it was begun, or gone on with.
        left: Seconds until all is done; None where that is not known yet.
    """

    running: tuple[Running, ...]
    what: str
    done: int
    total: int
    failed: int
    elapsed: float
    left: float | None

    def summary(self) -> str:
        """`2 of 5 trials done, 3.2 min, about 6.0 min left`."""
        failed = f"{self.failed} failed" if self.failed else ""
        left = "" if self.left is None else f"about {time_in_words(self.left)} left"
        whole = (f"{self.done} of {self.total} {self.what}", failed, time_in_words(self.elapsed), left)
        return ", ".join(filter(None, whole))

    def line(self) -> str:
        """The summary and the processes, in one plain line."""
        told = [f"{one.name}: {one.words()}" for one in self.running[:MOST]]
        more = len(self.running) - MOST
        told += [f"and {more} more"] if more > 0 else []
        return f"{self.summary()} | {'; '.join(told) or 'nothing has started yet'}"
