"""`calmkit generate --interactive`: a prompt, its continuation, the next prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import final

import click

from calmkit.interfaces import DataError, GenerationAsked
from calmkit.recipe.errors import RecipeError

HELP = """\
A line is a prompt, an empty one begins with nothing; one that starts with // begins with /. Ctrl-C ends an answer, Ctrl-D the talk.
  /again            the last prompt, the next seed
  /seed 3           same seed, same answer
  /length 40        how long an answer may become
  /n 2              answers to each prompt
  /temperature 0.5  of the sampler; the same as /set sampler.temperature=0.5
  /set KEY=VALUE    any setting of the sampler, or another one: /set sampler=vote
  /chunks           the borders of units, shown or hidden
  /quit"""

Answer = Callable[[GenerationAsked], Iterator[str]]
"""What a prompt and settings give, piece by piece.

Raises:
    ValueError: A setting that the data don't have.
    DataError: A prompt that can't be read.
"""

Change = Callable[[str], object]
"""Takes an override of the sampler from now on.

Raises:
    RecipeError: It is wrong, and nothing has changed.
    ValueError: It is none of a sampler.
"""


class Quit(Exception):
    """The talk is over."""


@final
@dataclass
class Talk:
    """What a person has set so far, and the prompt that they gave last.

    Attributes:
        asked: Settings, and the last prompt.
        answer: Gives what is printed.
        change: Takes overrides of the sampler.
    """

    asked: GenerationAsked
    answer: Answer
    change: Change

    def run(self) -> None:
        """Until the end of input or `/quit`."""
        with contextlib.suppress(ImportError):  # not on every system
            __import__("readline")  # from now on `input` has a history and can be edited
        click.echo("a line is a prompt; /help says more, Ctrl-D ends", err=True)
        while True:
            try:
                line = input("> ")
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:  # of a line that is half written
                click.echo()
                continue
            try:
                self.hear(line)
            except Quit:
                return
            except (RecipeError, DataError, ValueError, click.UsageError) as error:
                click.echo(str(error), err=True)

    def hear(self, line: str) -> None:
        """A command or a prompt.

        Raises:
            Quit: It was `/quit`.
            ValueError: Nothing that can be done; also of the kind of data.
            RecipeError: A setting that the sampler doesn't have.
            DataError: A prompt that can't be read.
        """
        if line.startswith("/") and not line.startswith("//"):
            self._command(*line[1:].partition(" ")[::2])
            return
        self.asked = replace(self.asked, prompts=(line.removeprefix("/") if line[:2] == "//" else line,))
        self._say()

    def _say(self) -> None:
        try:
            for piece in self.answer(self.asked):
                click.echo(piece, nl=False)
        except KeyboardInterrupt:
            pass  # of this answer; what is there stays
        click.echo()

    def _command(self, name: str, value: str) -> None:
        value = value.strip()
        numbers = {"seed": ("seed", 0), "length": ("length", 1), "n": ("num", 1)}
        if name in numbers:
            field, least = numbers[name]
            if not (value.isascii() and value.isdigit() and int(value) >= least):
                raise ValueError(f"/{name} takes a whole number of {least} or more, got '{value}'")
            self.asked = replace(self.asked, **{field: int(value)})
        elif name == "temperature":
            self.change(f"sampler.temperature={value}")
        elif name == "set":
            self.change(value)
        elif name == "chunks":
            self.asked = replace(self.asked, show_units=not self.asked.show_units)
        elif name == "again":
            self.asked = replace(self.asked, seed=self.asked.seed + 1)
            self._say()
        elif name == "help":
            click.echo(HELP)
        elif name == "quit":
            raise Quit
        else:
            raise ValueError(f"there is no command '/{name}'; /help lists them, // begins a prompt with /")
