"""Rows of T values for Lightning: batches of units, in an order that depends on seed, epoch and rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from calmkit.data.order import NO_ROW, SeededOrder
from calmkit.interfaces import Batch, DataError
from calmkit_series.corpus import Stretch


@final
class SeriesRows(Dataset[Batch]):
    """Stretches cut into rows of `length` values, which overlap nowhere. The last row of a stretch may be
    shorter; values that fill no unit are left out.

    Args:
        stretches: Of one split.
        length: T.
        width: P, values of a unit; it divides T.

    Attributes:
        values: `[R, T]`, 0 behind the end of a stretch.
        units: How many units of each row are real.
        series: The series that each row is of.
    """

    values: Float[np.ndarray, "R T"]
    units: Int[np.ndarray, " R"]
    series: Int[np.ndarray, " R"]

    def __init__(self, stretches: Sequence[Stretch], length: int, width: int) -> None:
        pieces = [
            (one.series, one.values[first : first + length])
            for one in stretches
            for first in range(0, len(one.values) - width + 1, length)
        ]
        pieces = [(series, values) for series, values in pieces if len(values) >= width]
        self.width = width
        self.values = np.zeros((len(pieces), length))
        for row, (_, values) in enumerate(pieces):
            self.values[row, : len(values)] = values
        self.units = np.array([len(values) // width for _, values in pieces], dtype=np.int64)
        self.series = np.array([series for series, _ in pieces], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one row; `NO_ROW` gives one without real units."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch at once: what the loader asks for first."""
        rows = np.asarray(indices, dtype=np.int64)
        real = rows != NO_ROW
        number = np.where(real, rows, 0)
        values = np.where(real[:, None], self.values[number], 0.0)
        data = torch.from_numpy(values).float().view(len(rows), -1, self.width)  # [B, L, P]
        place = np.arange(data.shape[1])
        valid = torch.from_numpy((place < self.units[number][:, None]) & real[:, None])
        group = torch.from_numpy(self.series[number])[:, None].expand(valid.shape).contiguous()
        return Batch(data, valid, group=group)


@final
class SeriesDataModule(LightningDataModule):
    """Rows of two splits.

    Args:
        train: Permuted every epoch; a last batch that isn't full is left out.
        valid: All of it, or `max_eval_rows` rows evenly spaced over it, in order.
        batch_size: Rows per process and step.
        eval_batch_size: The same in evaluation.
        seed: Of the order.
        max_eval_rows: Over all processes.
        among: These are taken of the rows that a `max_eval_rows` of so many would give.

    Raises:
        DataError: There are too few rows for one batch, or none is held out.
    """

    def __init__(
        self,
        train: SeriesRows,
        valid: SeriesRows,
        *,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        max_eval_rows: int,
        among: int | None = None,
    ) -> None:
        super().__init__()
        self.train_rows, self.valid_rows = train, valid
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.max_eval_rows, self.among = max_eval_rows, among
        if not len(valid):
            raise DataError("no row is held out: no stretch of the valid split fills a unit")
        self._check_one_batch(1)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Whole batches, of the rows of this process."""
        rank, world_size = self._place()
        self._check_one_batch(world_size)
        order = SeededOrder(
            len(self.train_rows), seed=self.seed, rank=rank, world_size=world_size, train=True
        )
        return _loader(self.train_rows, order, self.batch_size, drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Equally many batches in every process; rows that even them out have no real unit."""
        return self._valid_loader(*self._place())

    def all_val_dataloader(self) -> DataLoader[Batch]:
        """The rows of all processes, in order: for one that measures alone."""
        return self._valid_loader(0, 1)

    def _valid_loader(self, rank: int, world_size: int) -> DataLoader[Batch]:
        order = SeededOrder(
            len(self.valid_rows),
            rank=rank,
            world_size=world_size,
            train=False,
            max_rows=self.max_eval_rows,
            among=self.among,
        )
        return _loader(self.valid_rows, order, self.eval_batch_size, drop_last=False)

    def _place(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _check_one_batch(self, world_size: int) -> None:
        count, needed = len(self.train_rows), self.batch_size * world_size
        if count < needed:
            raise DataError(
                f"the train split has {count} rows, fewer than one step of {needed} (batch_size "
                f"{self.batch_size}); give longer series, or lower data.sequence_length or batch_size"
            )


def _loader(rows: SeriesRows, order: SeededOrder, batch_size: int, drop_last: bool) -> DataLoader[Batch]:
    return DataLoader(
        rows,
        batch_size=batch_size,
        sampler=order,
        drop_last=drop_last,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        num_workers=0,
        generator=torch.Generator(),  # else the loader draws from torch's default generator at every epoch
    )


def _as_it_is(batch: Batch) -> Batch:
    """`SeriesRows` makes whole batches."""
    return batch
