"""Counted n-gram models: what a report sets a neural model beside.

    p(x | c) = (N(c x) + T(c) p(x | c')) / (N(c) + T(c))

N counts the training tokens, T(c) is the number of distinct tokens seen after c, c' is c without its oldest
token, and the recursion ends at the uniform distribution. It is interpolated Witten-Bell smoothing and has no
parameter.

Source: Witten and Bell, The Zero-Frequency Problem, 1991. https://doi.org/10.1109/18.87000
Formula: Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, 1998
(TR-10-98, Harvard University).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calmkit.text.metrics.brier import NUM_TOKENS

LARGEST_VOCABULARY = {2: 8192, 3: 512}  # dense tables: 0.25 GiB and 0.5 GiB in float32
TOKENS_PER_BLOCK = 2**22  # of the counted stream, which may be a memory-mapped file


class NotCounted(ValueError):
    """An n-gram model that would need too large a table; the message says of what size and what would do."""


@final
@dataclass(frozen=True)
class NGramModel:
    """An n-gram model with its exact Brier terms.

    Attributes:
        probabilities: One table per length of context j = 0..order-1, `[V] * (j + 1)`: p(x | c), x last.
        collisions: One table per j, `[V] * j + [4]`: sum P(x_1..x_n | c)^2 for n = 1..4.
    """

    probabilities: tuple[Tensor, ...]
    collisions: tuple[Tensor, ...]

    @property
    def order(self) -> int:
        """1 for a unigram, 2 for a bigram, 3 for a trigram model."""
        return len(self.probabilities)

    @classmethod
    def count(
        cls, ids: np.ndarray | Tensor, vocab_size: int, order: int, device: torch.device | None = None
    ) -> NGramModel:
        """Count a stream of ids and smooth.

        Args:
            ids: One-dimensional, documents one after another; a memory map is read in blocks.
            vocab_size: V.
            order: 1, 2 or 3.
            device: Where the tables are made.

        Raises:
            NotCounted: If V is too large for a dense table of that order.
            ValueError: If the order is not 1, 2 or 3, or an id is not below V.
        """
        if order not in (1, 2, 3):
            raise ValueError(f"An n-gram model has order 1, 2 or 3, got {order}.")
        if vocab_size > LARGEST_VOCABULARY.get(order, vocab_size):
            raise NotCounted(
                f"A model of order {order} over {vocab_size} tokens is not counted: its table would have "
                f"{vocab_size}^{order} entries. Up to {LARGEST_VOCABULARY[order]} tokens would do."
            )
        lower = torch.full((vocab_size,), 1 / vocab_size, dtype=torch.get_default_dtype(), device=device)
        tables: list[Tensor] = []
        for length in range(1, order + 1):
            lower = _smooth(_count(ids, vocab_size, length, device), lower)
            tables.append(lower)
        return cls(tuple(tables), _collisions(tables))

    def brier_terms(
        self, chunks: Int[Tensor, "B L K"], valid: Bool[Tensor, "B L"], eligible: Bool[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "P 4"], Float[Tensor, "P 4"], Int[Tensor, " P"]]:
        """Exact accuracy and collision at the positions a model of chunks is scored at, for `BrierLM.update`.

        At the left end of a row, where fewer tokens stand before than it asks for, the lower order speaks.

        Args:
            chunks: Evaluation rows.
            valid: True where a unit is real; only real units are context.
            eligible: Units at which four tokens begin (`rollout.eligible_units`).

        Returns:
            Accuracy and collision for n = 1..4, and the row b of each position, on the device of `chunks`.
        """
        batch, units, chunk_size = chunks.shape
        device = self.probabilities[0].device
        tokens = chunks.reshape(batch, units * chunk_size).to(device)
        known = (_units_before(valid) * chunk_size)[eligible].clamp(max=self.order - 1).to(device)
        row, unit = eligible.nonzero().to(device).unbind(1)
        shape = (len(row), NUM_TOKENS)
        accuracy = torch.zeros(shape, dtype=self.probabilities[0].dtype, device=device)
        collision = torch.zeros_like(accuracy)
        for length in range(self.order):
            at = (known == length).nonzero()[:, 0]
            offsets = torch.arange(-length, NUM_TOKENS, device=device)
            window = tokens[row[at].unsqueeze(1), (unit[at] * chunk_size).unsqueeze(1) + offsets]
            accuracy[at] = self._chances(window, length)
            collision[at] = self.collisions[length][tuple(window[:, :length].unbind(1))]
        return accuracy.to(chunks.device), collision.to(chunks.device), row.to(chunks.device)

    def _chances(self, window: Int[Tensor, "P tokens"], length: int) -> Float[Tensor, "P 4"]:
        """P(y_1..y_n) of the last four tokens of each window, of which the first `length` are context."""
        chances = []
        for at in range(length, window.shape[1]):
            begin = max(0, at - self.order + 1)
            table = self.probabilities[at - begin]
            chances.append(table[tuple(window[:, begin : at + 1].unbind(1))])
        return torch.stack(chances, 1).cumprod(1)


def _count(
    ids: np.ndarray | Tensor, vocab_size: int, length: int, device: torch.device | None
) -> Int[Tensor, "*tuple"]:
    """How often each tuple of `length` successive tokens occurs, `[V] * length`."""
    counts = torch.zeros(vocab_size**length, dtype=torch.int32, device=device)
    for start in range(0, max(0, len(ids) - length + 1), TOKENS_PER_BLOCK):
        block = np.asarray(ids[start : start + TOKENS_PER_BLOCK + length - 1]).astype(np.int64)
        tokens = torch.from_numpy(block).to(counts.device)
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"An n-gram model over {vocab_size} tokens got ids from {low} to {high}; "
                "they must come from a tokenizer of that size."
            )
        code = torch.zeros_like(tokens[length - 1 :])
        for place in range(length):
            code = code * vocab_size + tokens[place : place + len(code)]
        counts.scatter_add_(0, code, torch.ones_like(code, dtype=torch.int32))
    return counts.view([vocab_size] * length)


def _smooth(
    counts: Int[Tensor, "*context V"], lower: Float[Tensor, "*shorter V"]
) -> Float[Tensor, "*context V"]:
    """Witten-Bell: mix the counts of each context with the next lower order, by the kinds seen after it."""
    seen = counts.sum(-1, keepdim=True).to(lower.dtype)  # N(c)
    kinds = (counts > 0).sum(-1, keepdim=True).to(lower.dtype)  # T(c)
    weight = torch.where(seen > 0, kinds / (seen + kinds), torch.ones_like(seen))
    table = counts.to(lower.dtype)
    table /= (seen + kinds).clamp(min=1)
    # The lower order has no oldest token and broadcasts over it. In place: a trigram table is large.
    for context, table_c in enumerate(table if table.ndim > 1 else [table]):
        table_c += (weight[context] if table.ndim > 1 else weight) * lower
    return table


def _collisions(tables: list[Tensor]) -> tuple[Tensor, ...]:
    """sum P(x_1..x_n | c)^2 for n = 1..4 and contexts of every length, `[V] * length + [4]`.

    C_n(c) = sum_x p(x | c)^2 C_{n-1}(c x), c x without its oldest token where it is too long.
    """
    longest = len(tables) - 1
    after = [torch.ones_like(table.select(-1, 0)) for table in tables]
    result = []
    for _ in range(NUM_TOKENS):
        after = [_expect_square(table, after[min(j + 1, longest)]) for j, table in enumerate(tables)]
        result.append(after)
    return tuple(torch.stack(list(lengths), -1) for lengths in zip(*result, strict=True))


def _expect_square(
    table: Float[Tensor, "*context V"], after: Float[Tensor, "*next"]
) -> Float[Tensor, "*context"]:
    """sum_x p(x | c)^2 after(c x), a slice of contexts at a time: no second table of full size."""
    if table.ndim < 3:
        return (table.square() * after).sum(-1)
    return torch.stack([(rows.square() * after).sum(-1) for rows in table])


def _units_before(valid: Bool[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Number of real units that stand directly before each unit, up to the last unit that is not."""
    place = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
    gap = torch.where(valid, torch.full_like(place, -1), place).cummax(1).values  # last invalid place so far
    before = torch.nn.functional.pad(gap[:, :-1], (1, 0), value=-1)
    return place - before - 1
