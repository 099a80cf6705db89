"""RecipeError: what is wrong with a recipe, where it stands, and what would do.

| Code  | Meaning                                                                     |
|-------|-----------------------------------------------------------------------------|
| CK100 | no such recipe, or its file cannot be read                                  |
| CK101 | the file is not YAML                                                        |
| CK102 | a YAML tag, anchor or alias, which recipes do without                       |
| CK103 | a key stands twice                                                          |
| CK104 | `extends` runs in a circle                                                  |
| CK105 | a version of the recipe format that this calmkit does not read              |
| CK110 | an override that is not of the form key=value                               |
| CK120 | no part of that name                                                        |
| CK130 | a key that nobody takes                                                     |
| CK131 | a key that is missing                                                       |
| CK132 | a value of another type                                                     |
| CK133 | a value outside its range                                                   |
| CK140 | a sequence length that the chunk size does not divide                       |
| CK141 | parts that do not fit: head and event, order and backbone, part and data    |
| CK142 | an embedder that reads latents where there are none                         |
| CK143 | a sampler that asks for what head, rows, order or condition do not give     |
| CK144 | a stage 1 for an autoencoder without parameters, or none for one with them  |
| CK145 | a part refuses its settings                                                 |
| CK146 | a corpus, tokenizer or `init_from` that cannot be read                      |
| CK147 | a cell of a study whose cost can't be made equal to the others'             |
| CK148 | a head that asks to be called as a run can't: with a memory, in float32     |
| CK149 | a row of a single unit, with nothing to predict it from                    |
| CK150 | a library, a device or an account that this machine lacks                   |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Mark:
    """Where something stands: a file with line and column, both from 1, or the command line (line 0)."""

    place: str
    line: int = 0
    column: int = 0

    def at(self, key: str) -> str:
        """The place and the dotted key as an error prints them."""
        if not self.line:
            return self.place
        return f"{self.place}:{self.line}:{self.column}" + (f"  ({key})" if key else "")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: From the table of this module.
        message: What is wrong, in one line.
        mark: Where, or None where no text stands behind it.
        key: Dotted key, empty for the recipe as a whole.
        help: What would do, empty where the message says it.
    """

    code: str
    message: str
    mark: Mark | None = None
    key: str = ""
    help: str = ""

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        where = self.mark.at(self.key) if self.mark else f"({self.key})" if self.key else ""
        if where:
            lines.append(f"  --> {where}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class RecipeError(Exception):
    """A recipe, or an override of one, that cannot be used. Its text is what the command line prints."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def refuse(code: str, message: str, mark: Mark | None = None, key: str = "", help: str = "") -> RecipeError:
    """A RecipeError with a single problem, to be raised."""
    return RecipeError([Problem(code, message, mark, key, help)])


def suggest(name: str, names: Iterable[str], label: str) -> str:
    """The help line of an unknown name: the nearest one, and all there are."""
    names = sorted(names)
    near = get_close_matches(name, names, 1)
    return (f"did you mean '{near[0]}'?  " if near else "") + f"{label}: {', '.join(names) or 'none'}"
