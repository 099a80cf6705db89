"""What a person sees of a phase: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, final

from calmkit.training.pace import patience
from calmkit.training.standing import Standing


class Shown(ABC):
    """Shows one phase from its begin to its end."""

    @abstractmethod
    def begin(self, standing: Standing) -> None:
        """The phase begins."""

    @abstractmethod
    def at(self, standing: Standing) -> None:
        """It has moved on."""

    @abstractmethod
    def scored(self, standing: Standing) -> None:
        """There are new scores."""

    @abstractmethod
    def end(self) -> None:
        """It is over, in whatever way."""


def scores_in_words(standing: Standing) -> str:
    """`loss 0.25  accuracy 0.9`."""
    return "  ".join(f"{name} {value:.4g}" for name, value in standing.scores.items())


@final
class Lines(Shown):
    """Plain lines: so many, evenly spaced, one after each validation, one where nothing was told for long.

    Args:
        say: Takes each.
        lines: How many, evenly spaced; 0: only where it takes long.
        announce: Whether the beginning is told.
    """

    def __init__(self, say: Any, lines: int, announce: bool = False) -> None:
        self.say, self.lines, self.announce = say, lines, announce
        self.said, self.said_at = 0, 0.0

    def begin(self, standing: Standing) -> None:
        """Tell that it begins, if wished."""
        if self.announce:
            self.say(standing.phase)

    def at(self, standing: Standing) -> None:
        """Tell where it stands, if it is time."""
        done, total = standing.done, standing.total
        evenly = bool(total) and done * self.lines // (total or 1) > self.said * self.lines // (total or 1)
        late = standing.phase_seconds - self.said_at >= patience(standing.phase_seconds)
        if not evenly and not late:
            return
        self.said, self.said_at = done, standing.phase_seconds
        loss = None if standing.loss is None else f"loss {standing.loss:.4f}"
        told = [standing.phase, standing.place, loss, f"{standing.phase_seconds:.0f} s"]
        self.say("  ".join(filter(None, told)))

    def scored(self, standing: Standing) -> None:
        """Tell the scores."""
        if standing.scores:
            self.said_at = standing.phase_seconds
            self.say(f"{standing.phase}  held out: {scores_in_words(standing)}")

    def end(self) -> None:
        """What follows tells it."""


@final
class Bar(Shown):
    """One bar on standard error, with the loss and the last scores.

    Args:
        keep: Whether it stays on the screen when the phase is over.
    """

    def __init__(self, keep: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[place]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[told]}", markup=False),
            console=Console(stderr=True),
            transient=not keep,
            redirect_stdout=sys.stdout.isatty(),  # lines for a file must not land on the screen
        )

    def begin(self, standing: Standing) -> None:
        """Show it."""
        self.bar.add_task(standing.phase, total=standing.total, place=standing.place, told="")
        self.bar.start()

    def at(self, standing: Standing) -> None:
        """Move it on."""
        loss = "" if standing.loss is None else f"loss {standing.loss:.4f}"
        held_out = f"held out: {scores_in_words(standing)}" if standing.scores else ""
        told = "  ".join(filter(None, (loss, held_out)))
        for task in self.bar.task_ids:
            self.bar.update(task, completed=standing.done, place=standing.place, told=told)

    def scored(self, standing: Standing) -> None:
        """Show the scores."""
        self.at(standing)

    def end(self) -> None:
        """Leave it as it is, and give the terminal back."""
        self.bar.stop()
