"""continuations: several texts for each of several prompts, in batches, each of its own random numbers.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

from calmkit.generation import Unit
from calmkit.interfaces import DataError, Sampler, Tokenizer
from calmkit.text.generation import TextModel
from calmkit.text.spoken import Spoken

BATCH = 16
"""Rows that are drawn together where nobody says how many."""


@final
@dataclass(frozen=True)
class Continuation:
    """What a model wrote behind a prompt.

    Attributes:
        prompt: What stands before.
        index: Its number among those of the prompt, from 0.
        seed: With which it can be had alone.
        chunks: What each unit said, a text for each step of the model; empty where a unit completed no
            character.
        tokens: Ids in it, end-of-text not among them.
        stopped: `eos`: it came to its end; `length`: no more was asked for.
        seconds: From the start of its batch to its last unit.
    """

    prompt: str
    index: int
    seed: int
    chunks: tuple[str, ...]
    tokens: int
    stopped: Literal["eos", "length"]
    seconds: float

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.chunks)


def continuations(
    writer: TextModel,
    prompts: Sequence[str],
    *,
    num: int = 1,
    max_tokens: int = 256,
    seed: int = 0,
    batch_size: int = BATCH,
    sampler: Sampler | None = None,
    on_unit: Callable[[Unit], object] | None = None,
) -> Iterator[Continuation]:
    """`num` continuations of each prompt, the first prompt's first; a batch is handed out when it is through.

    Continuation i of a prompt has the seed `seed + i`, whatever other prompts there are and however many rows
    are drawn together, and is what `TextModel.stream` gives with that seed. Rows that are read together may
    differ in the last digit from rows that are read alone, as sums of numbers do: a draw that hangs on
    that digit is another one.

    Args:
        writer: Model, tokenizer and sampler.
        prompts: Each a text; an empty one begins a new document.
        num: Of each prompt.
        max_tokens: Of each continuation, rounded up to whole units.
        seed: Of the first continuation of each prompt.
        batch_size: Rows that are drawn together.
        sampler: Instead of the recipe's.
        on_unit: Told of every unit of a batch.

    Raises:
        ValueError: Nothing is asked for.
        DataError: A prompt that the tokenizer doesn't take, by its number.
    """
    if num < 1 or batch_size < 1:
        raise ValueError(f"at least one row can be drawn, got {num} in batches of {batch_size}")
    rows = [
        (prompt, ids, index)
        for prompt, ids in zip(prompts, encoded(writer.tokenizer, prompts), strict=True)
        for index in range(num)
    ]
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        growing = [
            Growing(writer.tokenizer, prompt, ids, index, seed + index) for prompt, ids, index in batch
        ]
        began, seeds = time.perf_counter(), [row.seed for row in growing]
        made = writer.units([ids for _, ids, _ in batch], max_tokens=max_tokens, seeds=seeds, sampler=sampler)
        for unit in made:
            if on_unit is not None:
                on_unit(unit)
            for number, row in enumerate(growing):
                row.add(unit, number, time.perf_counter() - began)
        yield from (row.finished() for row in growing)


def encoded(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """Ids of each prompt.

    Raises:
        DataError: The tokenizer doesn't take one; where there are several, by its number.
    """
    found = []
    for number, prompt in enumerate(prompts, 1):
        try:
            found += tokenizer.encode([prompt])
        except DataError as error:
            if len(prompts) == 1:
                raise
            raise DataError(f"prompt {number} of {len(prompts)}: {error}") from error
    return found


class Growing:
    """A continuation while it is written."""

    def __init__(self, tokenizer: Tokenizer, prompt: str, ids: Sequence[int], index: int, seed: int) -> None:
        self.prompt, self.index, self.seed = prompt, index, seed
        self.spoken, self.eos_id = Spoken(tokenizer, ids), tokenizer.eos_id
        self.chunks: list[str] = []
        self.tokens, self.ended, self.seconds = 0, False, 0.0

    def add(self, unit: Unit, row: int, seconds: float) -> None:
        """One more unit, unless it ended before."""
        if self.ended:
            return
        ids = unit.data[row].tolist()
        self.chunks.append(self.spoken.more(ids))
        self.tokens += sum(one != self.eos_id for one in ids)
        self.ended, self.seconds = bool(unit.ended[row]), seconds

    def finished(self) -> Continuation:
        """All of it; what never became a character belongs to its last unit."""
        *before, last = self.chunks
        return Continuation(
            self.prompt,
            self.index,
            self.seed,
            (*before, last + self.spoken.rest()),
            self.tokens,
            "eos" if self.ended else "length",
            self.seconds,
        )
