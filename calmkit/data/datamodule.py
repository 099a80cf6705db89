"""Batches of rows for Lightning, whatever they are rows of: in an order that needs no state to resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from calmkit.data.order import SeededOrder
from calmkit.interfaces import Batch, DataError


@runtime_checkable
class Rows(Protocol):
    """A split cut into rows: a data set that makes whole batches."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The rows of these numbers; `calmkit.data.order.NO_ROW` gives one without a valid unit."""
        ...


class RowsDataModule(LightningDataModule):
    """Rows of two splits, in an order that depends on seed, epoch and rank alone.

    Args:
        train: Permuted every epoch; a last batch that isn't full is left out.
        valid: All of it, or `max_eval_rows` rows evenly spaced over it, in order.
        batch_size: Rows per process and step.
        eval_batch_size: The same in evaluation; None: as in training.
        seed: Of the order.
        max_eval_rows: Over all processes.
        among: These are taken of the rows that a `max_eval_rows` of so many would give.
        called: What they are, for people: "images".
        cure: What helps where there are too few.

    Raises:
        ValueError: A batch size is less than 1.
        DataError: There are too few rows for one batch.
    """

    def __init__(
        self,
        train: Rows,
        valid: Rows,
        *,
        batch_size: int,
        eval_batch_size: int | None = None,
        seed: int,
        max_eval_rows: int | None = None,
        among: int | None = None,
        called: str = "rows",
        cure: str = "give more, or lower batch_size",
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.train_rows, self.valid_rows = train, valid
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.seed, self.max_eval_rows, self.among = seed, max_eval_rows, among
        self._called, self._cure = called, cure
        self._check_one_batch(1)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Whole batches, of the rows of this process.

        Raises:
            DataError: There are too few rows for one batch in every process.
        """
        rank, world_size = self._place()
        self._check_one_batch(world_size)
        order = SeededOrder(
            len(self.train_rows), seed=self.seed, rank=rank, world_size=world_size, train=True
        )
        return _loader(self.rows_as_trained(order), order, self.batch_size, drop_last=True)

    def rows_as_trained(self, order: SeededOrder) -> Rows:
        """The training rows; a kind that changes them from epoch to epoch does so by the seed and the epoch
        of their order.
        """
        del order
        return self.train_rows

    def val_dataloader(self) -> DataLoader[Batch]:
        """Equally many batches in every process; rows that even them out have no valid unit."""
        return self._valid_loader(*self._place())

    def all_val_dataloader(self) -> DataLoader[Batch]:
        """The rows of all processes' `val_dataloader`, in order: for one that measures alone."""
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
            processes = "1 process" if world_size == 1 else f"{world_size} processes"
            raise DataError(
                f"the train split has {count} {self._called}, fewer than one step of {needed} "
                f"(batch_size {self.batch_size} in {processes}); {self._cure}"
            )


def _loader(rows: Rows, order: SeededOrder, batch_size: int, drop_last: bool) -> DataLoader[Batch]:
    return DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=order,
        drop_last=drop_last,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        num_workers=0,  # a row is index arithmetic on memory: no process is faster than that
        generator=torch.Generator(),  # else the loader draws from torch's default generator at every epoch
    )


def _as_it_is(batch: Batch) -> Batch:
    """`Rows` makes whole batches."""
    return batch
