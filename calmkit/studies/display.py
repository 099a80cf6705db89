"""Displays: how a person watches a study: a table that moves in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from calmkit.studies.board import Board
from calmkit.training.pace import patience, time_in_words

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

ROWS = 16
"""Processes that the table shows."""

LOSS, LEFT, GAP = 7, 10, 2
"""Widths of two columns, and between columns."""


class Display(ABC):
    """Shows what a study does. Lines and boards may come from two threads."""

    @abstractmethod
    def say(self, line: str) -> None:
        """A line that stays."""

    @abstractmethod
    def show(self, board: Board) -> None:
        """What it is doing now."""

    @abstractmethod
    def clear(self) -> None:
        """Nothing runs any more."""


@final
class LinesDisplay(Display):
    """Plain lines: what is said, and the board where nothing was said for long.

    Args:
        say: Takes each.
        clock: Seconds, from any zero.
    """

    def __init__(self, say: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock, self._lock = say, clock, threading.Lock()
        self._said = clock()

    def say(self, line: str) -> None:
        """As it is."""
        with self._lock:
            self._said = self._clock()
            self._say(line)

    def show(self, board: Board) -> None:
        """One line, if it is time."""
        if self._clock() - self._said >= patience(board.elapsed):
            self.say(board.line())

    def clear(self) -> None:
        """Lines stay."""


@final
class TableDisplay(Display):
    """A table of what runs, below the lines that were said.

    Args:
        console: Of the terminal; None: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self.console = console or Console()
        self._live: Any = None

    def say(self, line: str) -> None:
        """Above the table."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, board: Board) -> None:
        """Draw it anew."""
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(_table(board, self.console.width), refresh=True)

    def clear(self) -> None:
        """Take it away, and give the terminal back."""
        if self._live is not None:
            self._live.stop()
        self._live = None


def display_here(say: Any) -> Display:
    """The display that suits the place standard output goes to."""
    return TableDisplay() if sys.stdout.isatty() else LinesDisplay(say)


def _table(board: Board, width: int) -> RenderableType:
    """Numbers have the width that they need; names, phases and scores share what is left."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rest = max(0, width - LOSS - LEFT - 4 * GAP)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_edge=False)
    for name, share in (("trial", 0.28), ("doing", 0.37), ("loss", 0.0), ("held out", 0.35), ("left", 0.0)):
        fixed = {"loss": LOSS, "left": LEFT}.get(name)
        most = None if fixed else max(len(name), int(rest * share))
        justify: Any = "right" if fixed else "left"
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", width=fixed, max_width=most, justify=justify
        )
    for one in board.running[:ROWS]:
        left = "" if one.left is None else time_in_words(one.left)
        table.add_row(*map(Text, (one.name, one.doing, one.loss, one.best, left)))
    more = len(board.running) - ROWS
    lines = [Text(f"and {more} more")] if more > 0 else []
    return Group(table, *lines, Text(board.summary()))
