"""Which rows a process sees, and when: a pure function of (seed, epoch, rank); resuming needs no state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import numpy as np
from jaxtyping import Int
from torch.utils.data import DistributedSampler

NO_ROW = -1
"""The index of a row without any valid unit: it evens out the processes of an evaluation."""


def training_order(
    num_rows: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Int[np.ndarray, " rows"]:
    """A permutation of the rows, dealt out to the processes in turn; what doesn't deal evenly is left out."""
    permuted = np.random.Generator(np.random.PCG64((seed, epoch))).permutation(num_rows)
    return permuted[: num_rows - num_rows % world_size][rank::world_size]


def evaluation_order(
    num_rows: int,
    rank: int = 0,
    world_size: int = 1,
    max_rows: int | None = None,
    among: int | None = None,
) -> Int[np.ndarray, " rows"]:
    """The rows in order, dealt out in turn; `NO_ROW` where the last round has none: all have equally many.

    With `max_rows`, so many of them, evenly spaced: the middle row of each of `max_rows` equal parts. With
    `among`, they are taken of the rows that `max_rows=among` gives.
    """
    wider = _spread(num_rows, among)
    rows = wider[_spread(len(wider), max_rows)]
    return np.concatenate([rows, np.full(-len(rows) % world_size, NO_ROW)])[rank::world_size]


def _spread(num_rows: int, max_rows: int | None) -> Int[np.ndarray, " rows"]:
    count = num_rows if max_rows is None else min(max_rows, num_rows)
    return (2 * np.arange(count) + 1) * num_rows // (2 * count)


@final
class SeededOrder(DistributedSampler[int]):
    """The order of one process, for a DataLoader. Lightning calls `set_epoch`.

    A DistributedSampler by type for one reason: Lightning puts its own sampler, which repeats rows in
    evaluation, in place of any other kind as soon as there are several processes.

    Args:
        num_rows: Of the data set.
        seed: Of the order; without effect in evaluation.
        rank: Of this process.
        world_size: Number of processes.
        train: `training_order`, else `evaluation_order`.
        max_rows: In evaluation: at most so many rows over all processes.
        among: In evaluation: taken of at most so many.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        train: bool,
        max_rows: int | None = None,
        among: int | None = None,
    ) -> None:
        if seed < 0:
            raise ValueError(f"the seed of the data's order must be 0 or more, got {seed}")
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"max_eval_rows must be at least 1, got {max_rows}; None takes all")
        super().__init__(range(num_rows), world_size, rank, shuffle=train, seed=seed, drop_last=train)  # type: ignore[arg-type]
        self.num_rows, self.world_size = num_rows, world_size
        self.train, self.max_rows, self.among = train, max_rows, among

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def __len__(self) -> int:
        if self.train:
            return self.num_rows // self.world_size
        return len(self.indices())

    def indices(self) -> Int[np.ndarray, " rows"]:
        """The rows of this epoch, in order."""
        if self.train:
            return training_order(self.num_rows, self.seed, self.epoch, self.rank, self.world_size)
        return evaluation_order(self.num_rows, self.rank, self.world_size, self.max_rows, self.among)
