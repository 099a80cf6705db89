"""What a value of a recipe may be: the numbers of a field, the form of a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Like:
    """A pattern that a text must match, and examples of it for the error."""

    examples: str
    pattern: str

    def __str__(self) -> str:
        return self.examples


NAME = Like(
    "tiny/energy, a path inside the folder runs",
    r"(?!\.{1,2}(/|$))[^/\\\0]+(/(?!\.{1,2}(/|$))[^/\\\0]+)*",
)
DEVICES = Like("auto, -1, 2 or 0,1", r"auto|-1|[1-9]\d*|\d+(,\d+)+|\d+,")


def bounded(
    default: Any = ...,
    *,
    least: int | float | None = None,
    above: int | float | None = None,
    below: int | float | None = None,
) -> Any:
    """A field whose number (or every number of a tuple) is at least `least`, above `above`, below `below`."""
    limits = {"at least": least, "above": above, "below": below}
    return field(metadata=limits) if default is ... else field(default=default, metadata=limits)
