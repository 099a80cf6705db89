"""Batches of text for Lightning: data are ids `[B, L, K]`, a unit's group is its document."""

from __future__ import annotations

from typing import final

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from calmkit.data.order import SeededOrder
from calmkit.interfaces import Batch, DataError
from calmkit.text.packing import PackedRows
from calmkit.text.token_file import TokenFile


@final
class TextDataModule(LightningDataModule):
    """Packed rows of two token files, in an order that depends on seed, epoch and rank alone.

    Args:
        train: Whole rows only, permuted every epoch; a last batch that isn't full is left out.
        valid: All of it, or `max_eval_rows` rows evenly spaced over it, in order.
        chunk_size: K.
        sequence_length: T.
        eos_id: Of the tokenizer.
        batch_size: Rows per process and step.
        eval_batch_size: The same in evaluation; None: as in training.
        seed: Of the order.
        max_eval_rows: Over all processes.
        among: These are taken of the rows that a `max_eval_rows` of so many would give.
    """

    def __init__(
        self,
        train: TokenFile,
        valid: TokenFile,
        *,
        chunk_size: int,
        sequence_length: int,
        eos_id: int,
        batch_size: int,
        eval_batch_size: int | None = None,
        seed: int,
        max_eval_rows: int | None = None,
        among: int | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.train_rows = PackedRows(train, chunk_size, sequence_length, eos_id, keep_remainder=False)
        self.valid_rows = PackedRows(valid, chunk_size, sequence_length, eos_id, keep_remainder=True)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.seed, self.max_eval_rows, self.among = seed, max_eval_rows, among
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
        return _loader(self.train_rows, order, self.batch_size, drop_last=True)

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
        rows, needed = len(self.train_rows), self.batch_size * world_size
        if rows < needed:
            length = self.train_rows.units * self.train_rows.chunk_size
            raise DataError(
                f"the train split makes {rows} rows of {length} tokens, fewer than one step of {needed} "
                f"(batch_size {self.batch_size} in {world_size} process{'es' if world_size > 1 else ''}); "
                "give more text, or lower batch_size or data.sequence_length"
            )


def _loader(rows: PackedRows, order: SeededOrder, batch_size: int, drop_last: bool) -> DataLoader[Batch]:
    return DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=order,
        drop_last=drop_last,
        collate_fn=_as_batch,  # type: ignore[arg-type]
        num_workers=0,  # a row is index arithmetic on mapped memory: no process is faster than that
        generator=torch.Generator(),  # else the loader draws from torch's default generator at every epoch
    )


def _as_batch(rows: dict[str, Tensor]) -> Batch:
    """`PackedRows` makes whole batches."""
    return Batch(rows["chunks"], rows["valid"], group=rows["documents"])
