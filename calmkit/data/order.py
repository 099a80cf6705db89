"""Which rows a process sees, and when: pure functions of the seed and of how many were seen; no state.

Training reads one endless stream: a permutation of the rows, then another one, and so on. A step takes the
next rows of it, whatever the number of processes, so a position in the stream is all that a resumed run must
know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import numpy as np
from jaxtyping import Int
from torch.utils.data import DistributedSampler

NO_ROW = -1
"""The index of a row without any valid unit: it evens out the processes of an evaluation."""


def epoch_order(num_rows: int, seed: int, epoch: int) -> Int[np.ndarray, " rows"]:
    """The permutation of the rows that an epoch reads."""
    return np.random.Generator(np.random.PCG64((seed, epoch))).permutation(num_rows)


@final
class TrainingStream:
    """Batches of a process, without an end: a batch sampler for a DataLoader.

    What it gives are *places*: `place = epoch * num_rows + row`, so that who reads a row knows its epoch.
    Rank r of W takes rows r, r + W, ... of every W batches, which together are what one process with a batch
    W times as large takes.

    Args:
        num_rows: Of the data set.
        seed: Of the order.
        batch_size: Rows of a batch of one process.
        start: Rows of the stream that were seen, by all processes together.
        rank: Of this process.
        world_size: Number of processes.

    Raises:
        ValueError: The seed is below 0, or there are no rows.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        seed: int,
        batch_size: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if seed < 0:
            raise ValueError(f"the seed of the data's order must be 0 or more, got {seed}")
        if num_rows < 1 or start < 0:
            raise ValueError(f"a stream needs rows and begins at 0 or later: {num_rows} rows from {start}")
        self.num_rows, self.seed, self.start = num_rows, seed, start
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self._epoch: tuple[int, Int[np.ndarray, " rows"]] = (-1, np.empty(0, dtype=np.int64))

    def __iter__(self) -> Iterator[list[int]]:
        position, taken = self.start, self.batch_size * self.world_size
        while True:
            yield self.places(position, taken)[self.rank :: self.world_size].tolist()
            position += taken

    def places(self, position: int, count: int) -> Int[np.ndarray, " count"]:
        """Places `position` to `position + count` of the stream, in order."""
        found = []
        while count > 0:
            epoch, offset = divmod(position, self.num_rows)
            if self._epoch[0] != epoch:
                self._epoch = epoch, epoch_order(self.num_rows, self.seed, epoch)
            part = self._epoch[1][offset : offset + count]
            found.append(epoch * self.num_rows + part)
            position, count = position + len(part), count - len(part)
        return np.concatenate(found)


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
class EvaluationOrder(DistributedSampler[int]):
    """`evaluation_order` of one process, for a DataLoader.

    A DistributedSampler by type for one reason: Lightning puts its own sampler, which repeats rows in
    evaluation, in place of any other kind as soon as there are several processes.

    Args:
        num_rows: Of the data set.
        rank: Of this process.
        world_size: Number of processes.
        max_rows: At most so many rows over all processes.
        among: Taken of at most so many.

    Raises:
        ValueError: No rows are asked for.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        max_rows: int | None = None,
        among: int | None = None,
    ) -> None:
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"max_eval_rows must be at least 1, got {max_rows}; None takes all")
        super().__init__(range(num_rows), world_size, rank, shuffle=False)  # type: ignore[arg-type]
        self.num_rows, self.max_rows, self.among = num_rows, max_rows, among

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def __len__(self) -> int:
        return len(self.indices())

    def indices(self) -> Int[np.ndarray, " rows"]:
        """The rows, in order."""
        return evaluation_order(self.num_rows, self.rank, self.num_replicas, self.max_rows, self.among)
