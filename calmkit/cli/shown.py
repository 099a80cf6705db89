"""Pieces on standard output as they come, and what is said beside them on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import final

import click

from calmkit.printed import printed


@final
class Shown:
    """Prints pieces of a line; a note waits for its end, to stand on a line of its own."""

    def __init__(self) -> None:
        self.begun = False
        self.waiting: list[str] = []

    def note(self, line: str) -> None:
        """Say something beside: now, or when the line that has begun is over."""
        if self.begun:
            self.waiting.append(line)
        else:
            click.echo(line, err=True)

    def show(self, pieces: Callable[[Callable[[str], object]], Iterator[str]]) -> None:
        """Print what `pieces(note)` gives, one after the other, and end the line, also when interrupted."""
        try:
            for piece in pieces(self.note):
                self.begun = True
                click.echo(printed(piece) if sys.stdout.isatty() else piece, nl=False, color=True)
        except KeyboardInterrupt:
            click.echo()
            raise
        click.echo()
        for line in self.waiting:
            click.echo(line, err=True)
