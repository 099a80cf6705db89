"""A trained model of series as users hold it: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.generation import Precision, generate
from calmkit.interfaces import Front, NeverEnds, Sampler
from calmkit.model import CalmModel
from calmkit_series.prepare import width_of

BATCH = 128
"""Rows that are drawn together where nobody says how many."""


@final
class SeriesModel(Front):
    """A model with its sampler.

    Args:
        model: In eval mode.
        sampler: The one of its recipe.
        precision: In which it draws; see `calmkit.generation`.

    Attributes:
        width: P, values of a unit.
    """

    def __init__(self, model: CalmModel, sampler: Sampler, precision: Precision = "auto") -> None:
        self.model, self.sampler, self.precision = model, sampler, precision
        self.width = width_of(model.autoencoder)

    def stream(
        self,
        prompt: Sequence[float] = (),
        *,
        length: int = 64,
        num: int = 1,
        seed: int = 0,
        sampler: Sampler | None = None,
    ) -> Iterator[Float[Tensor, "num P"]]:
        """The continuation, unit by unit; the last one may be shorter.

        Args:
            prompt: What stands before, the same for all rows. Whole units are read: the oldest values that
                fill none are left out. Empty: rows begin as those of the data do.
            length: Values to make in each row.
            num: Rows, each of its own randomness: row i is that of the seed `seed + i`.
            seed: Same seed, same rows.
            sampler: Instead of the recipe's.

        Raises:
            ValueError: No values are asked for, or a prompt fills no unit.
        """
        if length < 1 or num < 1:
            raise ValueError(f"at least one row of one value can be made, got {num} of {length}")
        units = len(prompt) // self.width
        if len(prompt) and not units:
            raise ValueError(f"a prompt of {len(prompt)} values fills no unit; give {self.width} or more")
        whole = torch.tensor(list(prompt)[len(prompt) - units * self.width :] or [0.0] * self.width)
        where = next(self.model.parameters())
        data = whole.to(where).view(1, -1, self.width).expand(num, -1, -1)  # [num, units, P]
        valid = torch.full(data.shape[:2], units > 0, device=where.device)
        made = generate(
            self.model,
            data,
            valid,
            sampler or self.sampler,
            NeverEnds(),
            max_units=-(-length // self.width),
            seeds=range(seed, seed + num),
            precision=self.precision,
        )
        for number, unit in enumerate(made):
            yield unit.data[:, : length - number * self.width]

    def generate(
        self,
        prompt: Sequence[float] = (),
        *,
        length: int = 64,
        num: int = 1,
        seed: int = 0,
        sampler: Sampler | None = None,
        batch_size: int = BATCH,
    ) -> Float[Tensor, "num length"]:
        """The whole continuation, rows in batches, which change no random number; see `stream`.

        Raises:
            ValueError: As `stream`, or batches of no row.
        """
        if batch_size < 1:
            raise ValueError(f"at least one row can be drawn together, got {batch_size}")
        parts = []
        for first in range(0, max(num, 1), batch_size):
            units = self.stream(
                prompt,
                length=length,
                num=min(batch_size, num - first),
                seed=seed + first,
                sampler=sampler,
            )
            parts.append(torch.cat(list(units), 1))
        return torch.cat(parts)
