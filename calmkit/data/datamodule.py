"""Batches of rows for Lightning, whatever they are rows of: in an order that needs no state to resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, final, runtime_checkable

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from calmkit.data.order import EvaluationOrder, TrainingStream
from calmkit.data.reading_ahead import ReadsAhead
from calmkit.interfaces import Batch, DataError


@runtime_checkable
class Rows(Protocol):
    """A split cut into rows: a data set that makes whole batches."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The rows of these numbers; `calmkit.data.order.NO_ROW` gives one without a valid unit."""
        ...


class RowsDataModule(LightningDataModule):
    """Rows of two splits, in an order that depends on the seed and on how many rows were seen alone.

    Args:
        train: Permuted every epoch. One epoch follows the other: a batch may hold rows of two.
        valid: All of it, or `max_eval_rows` rows evenly spaced over it, in order.
        batch_size: Rows per process and step.
        eval_batch_size: The same in evaluation; None: as in training.
        seed: Of the order.
        max_eval_rows: Over all processes.
        among: These are taken of the rows that a `max_eval_rows` of so many would give.
        workers: Processes that read ahead for each process of training; 0: it reads itself.
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
        workers: int = 0,
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
        self.workers, self._called, self._cure = workers, called, cure
        self._seen = 0
        self._check_one_batch(1)

    def begin(self, seen: int) -> None:
        """Let training go on behind the rows that all processes together have seen."""
        self._seen = seen

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches without an end: of each, the rows of this process.

        Raises:
            DataError: There are too few rows for one batch in every process.
        """
        rank, world_size = self._place()
        self._check_one_batch(world_size)
        stream = TrainingStream(
            len(self.train_rows),
            seed=self.seed,
            batch_size=self.batch_size,
            start=self._seen,
            rank=rank,
            world_size=world_size,
        )
        return DataLoader(
            _Trained(self),
            batch_sampler=stream,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=self.workers,  # 0 as a rule: a row in memory is index arithmetic
            worker_init_fn=ReadsAhead() if self.workers else None,
            generator=torch.Generator(),  # else the loader draws from torch's default generator
        )

    def rows_at(self, seen: int, count: int) -> Batch:
        """What a step of `count` rows over all processes sees behind so many, as one batch."""
        stream = TrainingStream(len(self.train_rows), seed=self.seed, batch_size=count, start=seen)
        return self.trained_rows(next(iter(stream)))

    def first_epoch(self) -> Iterator[Batch]:
        """Every training row once, in the order of the first epoch, in whole batches: for one that looks."""
        stream = TrainingStream(len(self.train_rows), seed=self.seed, batch_size=self.batch_size)
        batches = iter(stream)
        return (self.trained_rows(next(batches)) for _ in range(len(self.train_rows) // self.batch_size))

    def trained_rows(self, places: Sequence[int]) -> Batch:
        """The training rows of places (`TrainingStream`); where an epoch changes its rows, this does it."""
        return self.train_rows.__getitems__([place % len(self.train_rows) for place in places])

    def val_dataloader(self) -> DataLoader[Batch]:
        """Equally many batches in every process; rows that even them out have no valid unit."""
        return self._valid_loader(*self._place())

    def all_val_dataloader(self) -> DataLoader[Batch]:
        """The rows of all processes' `val_dataloader`, in order: for one that measures alone."""
        return self._valid_loader(0, 1)

    def _valid_loader(self, rank: int, world_size: int) -> DataLoader[Batch]:
        order = EvaluationOrder(
            len(self.valid_rows),
            rank=rank,
            world_size=world_size,
            max_rows=self.max_eval_rows,
            among=self.among,
        )
        return DataLoader(
            self.valid_rows,  # type: ignore[arg-type]
            batch_size=self.eval_batch_size,
            sampler=order,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            generator=torch.Generator(),
        )

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


@final
class _Trained(Dataset[Batch]):
    """The training rows of a datamodule, by their places."""

    def __init__(self, data: RowsDataModule) -> None:
        self.data = data

    def __getitem__(self, place: int) -> Batch:
        return self.data.trained_rows([place])

    def __getitems__(self, places: Sequence[int]) -> Batch:
        """A whole batch at once."""
        return self.data.trained_rows(places)


def _as_it_is(batch: Batch) -> Batch:
    """`Rows` makes whole batches."""
    return batch
