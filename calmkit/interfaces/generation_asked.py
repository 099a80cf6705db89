"""GenerationAsked: what a person asked `calmkit generate` for, and which of it a kind of data takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

OPTIONS: Mapping[str, str] = {
    "prompt": "--prompt",
    "prompts": "more than one prompt",
    "length": "--length",
    "condition": "--condition",
    "num": "-n",
    "out": "--out",
    "batch_size": "--batch-size",
    "stream": "--no-stream",
    "show_units": "--show-chunks",
    "json": "--json",
}
"""What a kind of data may take (`DataKind.takes`), and what a person writes for it. Every kind has a seed."""

TAKEN_BEFORE = ("prompt", "length", "condition", "num", "out")
"""What kinds that state nothing are given: they look for themselves."""


@final
@dataclass(frozen=True)
class GenerationAsked:
    """What a person asked `calmkit generate` for; None: nothing.

    Attributes:
        prompts: What stands before, one for each row or group of rows; none: nothing was said. An empty
            prompt is one: nothing stands before.
        length: How long a row may become, in `words.element`s.
        condition: Name -> value, as written.
        num: How many rows, of each prompt where there are prompts.
        out: A file to write to.
        seed: Same seed, same result.
        batch_size: Rows that are drawn together.
        stream: Whether what is made is wanted as it comes.
        show_units: Whether the borders of units are wanted.
        json: Whether records are wanted, not what people read.
    """

    prompts: tuple[str, ...] = ()
    length: int | None = None
    condition: Mapping[str, str] = field(default_factory=dict)
    num: int | None = None
    out: Path | None = None
    seed: int = 0
    batch_size: int | None = None
    stream: bool = True
    show_units: bool = False
    json: bool = False

    @property
    def prompt(self) -> str | None:
        """The first of the prompts."""
        return self.prompts[0] if self.prompts else None

    def named(self) -> Iterator[str]:
        """The keys of `OPTIONS` that are asked for."""
        asked = {
            "prompt": bool(self.prompts),
            "prompts": len(self.prompts) > 1,
            "length": self.length is not None,
            "condition": bool(self.condition),
            "num": self.num is not None,
            "out": self.out is not None,
            "batch_size": self.batch_size is not None,
            "stream": not self.stream,
            "show_units": self.show_units,
            "json": self.json,
        }
        return (name for name in OPTIONS if asked[name])

    def check(self, takes: Collection[str], data: str) -> None:
        """Refuse what a kind of data doesn't take.

        Args:
            takes: Keys of `OPTIONS`.
            data: The kind in a word.

        Raises:
            ValueError: Naming the option, and those that would do.
        """
        for name in self.named():
            if name not in takes:
                known = ", ".join(OPTIONS[one] for one in OPTIONS if one in takes)
                raise ValueError(f"{OPTIONS[name]} means nothing for {data}; {known} and --seed do")
