"""Text in, text out: prompts as chunks of ids, `generate` over ids, and `TextModel` over strings.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from calmkit.generation import Precision, Unit
from calmkit.generation import generate as generate_units
from calmkit.interfaces import Front, Sampler, Tokenizer
from calmkit.model import CalmModel
from calmkit.text.ending import EndOfText
from calmkit.text.spoken import Spoken
from calmkit.text.units import chunk_size_of


def prompt_chunks(
    prompts: Sequence[Sequence[int]], chunk_size: int, eos_id: int, device: torch.device | None = None
) -> tuple[Int[Tensor, "B P K"], Bool[Tensor, "B P"]]:
    """Prompts of any lengths as one batch of chunks.

    A prompt whose length is no multiple of K is filled up with end-of-text at its left end, as packing fills
    documents; an empty one is one chunk of end-of-text. Shorter rows get invalid units on their left, which
    no part sees.
    """
    rows = [list(prompt) or [eos_id] * chunk_size for prompt in prompts]
    rows = [[eos_id] * (-len(row) % chunk_size) + row for row in rows]
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[eos_id] * (longest - len(row)) + row for row in rows], device=device)
    units = torch.tensor([len(row) // chunk_size for row in rows], device=device)
    chunks = tokens.view(len(rows), -1, chunk_size)  # [B, P, K]
    position = torch.arange(chunks.shape[1], device=device)
    return chunks, position >= chunks.shape[1] - units.unsqueeze(1)


def generate(
    model: CalmModel,
    prompts: Sequence[Sequence[int]],
    sampler: Sampler,
    *,
    eos_id: int,
    max_units: int,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    precision: Precision = "auto",
) -> Iterator[Unit]:
    """Continue each prompt of ids until it ends or `max_units` units are made.

    Args:
        model: In eval mode; all is drawn on its device.
        prompts: Ids of each row.
        sampler: Chooses among a head's draws.
        eos_id: End-of-text.
        max_units: Most units to make.
        seed: See `calmkit.generation.generate`.
        seeds: See `calmkit.generation.generate`.
        precision: See `calmkit.generation.generate`.
    """
    device = next(model.parameters()).device
    chunks, valid = prompt_chunks(prompts, chunk_size_of(model), eos_id, device)
    return generate_units(
        model,
        chunks,
        valid,
        sampler,
        EndOfText(eos_id),
        max_units=max_units,
        seed=seed,
        seeds=seeds,
        precision=precision,
    )


@final
class TextModel(Front):
    """A model with its tokenizer and sampler: text in, text out.

    Args:
        model: In eval mode.
        tokenizer: The one it was trained with.
        sampler: The one of its recipe.
        precision: In which it writes; see `generate`.
    """

    def __init__(
        self, model: CalmModel, tokenizer: Tokenizer, sampler: Sampler, precision: Precision = "auto"
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.sampler = sampler
        self.precision: Precision = precision

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 256,
        seed: int = 0,
        sampler: Sampler | None = None,
        on_unit: Callable[[Unit], object] | None = None,
        border: str = "",
    ) -> Iterator[str]:
        """The continuation, piece by piece, as soon as its characters are complete.

        A character that lies over a border of units is said with the unit that completes it.

        Args:
            prompt: Text to continue; empty begins a new document.
            max_tokens: Rounded up to whole units.
            seed: Same seed, same text.
            sampler: Instead of the recipe's.
            on_unit: Told of every unit: what it cost and the level of agreement behind it.
            border: Said between two units.
        """
        (ids,) = self.tokenizer.encode([prompt])
        spoken, between = Spoken(self.tokenizer, ids), ""
        for unit in self.units([ids], max_tokens=max_tokens, seeds=[seed], sampler=sampler):
            if on_unit is not None:
                on_unit(unit)
            said = between + spoken.more(unit.data[0].tolist())
            between = border
            if said:
                yield said
        rest = spoken.rest()
        if rest:
            yield rest

    def units(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int = 256,
        seeds: Sequence[int],
        sampler: Sampler | None = None,
    ) -> Iterator[Unit]:
        """Units of several prompts of ids together, each row of its own seed; see `stream`.

        Raises:
            ValueError: No token is asked for, or there are not as many seeds as prompts.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
        return generate(
            self.model,
            prompts,
            sampler or self.sampler,
            eos_id=self.tokenizer.eos_id,
            max_units=-(-max_tokens // chunk_size_of(self.model)),
            seed=seeds[0],
            seeds=seeds,
            precision=self.precision,
        )

    def generate(
        self, prompt: str = "", *, max_tokens: int = 256, seed: int = 0, sampler: Sampler | None = None
    ) -> str:
        """The whole continuation; see `stream`."""
        return "".join(self.stream(prompt, max_tokens=max_tokens, seed=seed, sampler=sampler))
