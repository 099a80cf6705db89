"""`calmkit generate --interactive`: a prompt, its continuation, the next prompt."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import click

from calmkit.interfaces import DataError, GenerationAsked
from calmkit.recipe.errors import RecipeError

HELP = """\
A line is a prompt; an empty one begins with nothing, and one that starts with // begins with /.
Ctrl-C ends an answer, Ctrl-D the talk.
  /again            the last prompt, the next seed
  /seed 3           same seed, same answer
  /length 40        how long an answer may become
  /n 2              answers to each prompt
  /temperature 0.5  of the sampler; the same as /set sampler.temperature=0.5
  /set KEY=VALUE    any setting of the sampler, or another one: /set sampler=vote
  /chunks           the borders of units, shown or hidden
  /quit"""

DIGITS = 19  # from here on a seed may be more than torch takes

Answer = Callable[[GenerationAsked], object]
"""Prints what a prompt and settings give.

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
        answer: Prints a continuation.
        change: Takes overrides of the sampler.
    """

    asked: GenerationAsked
    answer: Answer
    change: Change

    def run(self) -> None:
        """Until the end of input or `/quit`."""
        with contextlib.suppress(ImportError):  # not on every system
            importlib.import_module("readline")  # from now on `input` has a history and can be edited
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
        with contextlib.suppress(KeyboardInterrupt):  # of this answer; what is there stays
            self.answer(self.asked)

    def _command(self, name: str, value: str) -> None:
        value = value.strip()
        if name == "seed":
            self.asked = replace(self.asked, seed=_whole(name, value, 0))
        elif name == "length":
            self.asked = replace(self.asked, length=_whole(name, value, 1))
        elif name == "n":
            self.asked = replace(self.asked, num=_whole(name, value, 1))
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


def _whole(name: str, value: str, least: int) -> int:
    if value.isascii() and value.isdigit() and len(value) < DIGITS and int(value) >= least:
        return int(value)
    raise ValueError(f"/{name} takes a whole number of {least} or more, such as {least + 2}; got '{value}'")
