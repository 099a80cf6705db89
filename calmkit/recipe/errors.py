"""RecipeError: what is wrong with a recipe, where it stands, and what would do.

Codes are told in `calmkit.recipe.codes`.
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
            return f"{self.place}  ({key})" if key and self.place.endswith((".yaml", ".yml")) else self.place
        return f"{self.place}:{self.line}:{self.column}" + (f"  ({key})" if key else "")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: Of `calmkit.recipe.codes`.
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
