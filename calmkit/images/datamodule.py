"""Batches of images for Lightning."""

from __future__ import annotations

from typing import final

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from calmkit.data.order import SeededOrder
from calmkit.images.corpus import Images
from calmkit.images.rows import ImageRows
from calmkit.interfaces import Batch, DataError


@final
class ImageDataModule(LightningDataModule):
    """Images of two splits, in an order that depends on seed, epoch and rank alone.

    Args:
        train: Permuted every epoch; a last batch that isn't full is left out.
        valid: All of it, or `max_eval_rows` images evenly spaced over it, in order.
        layout: The grid of units that the autoencoder makes of an image.
        batch_size: Images per process and step.
        eval_batch_size: The same in evaluation; None: as in training.
        seed: Of the order and of what is mirrored.
        flip: In training, half of the images are mirrored left to right, others in every epoch.
        max_eval_rows: Over all processes.
        among: These are taken of the images that a `max_eval_rows` of so many would give.
    """

    def __init__(
        self,
        train: Images,
        valid: Images,
        *,
        layout: tuple[int, int],
        batch_size: int,
        eval_batch_size: int | None = None,
        seed: int,
        flip: bool = False,
        max_eval_rows: int | None = None,
        among: int | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.train_images, self.layout = train, layout
        self.valid_rows = ImageRows(valid, layout)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.seed, self.flip = seed, flip
        self.max_eval_rows, self.among = max_eval_rows, among
        self._check_one_batch(1)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Whole batches, of the images of this process.

        Raises:
            DataError: There are too few images for one batch in every process.
        """
        rank, world_size = self._place()
        self._check_one_batch(world_size)
        order = SeededOrder(
            len(self.train_images), seed=self.seed, rank=rank, world_size=world_size, train=True
        )
        rows = ImageRows(self.train_images, self.layout, flips=order if self.flip else None)
        return _loader(rows, order, self.batch_size, drop_last=True)

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
        count, needed = len(self.train_images), self.batch_size * world_size
        if count < needed:
            raise DataError(
                f"the train split has {count} images, fewer than one step of {needed} (batch_size "
                f"{self.batch_size} in {world_size} process{'es' if world_size > 1 else ''}); give more "
                "images, or lower batch_size"
            )


def _loader(rows: ImageRows, order: SeededOrder, batch_size: int, drop_last: bool) -> DataLoader[Batch]:
    return DataLoader(
        rows,
        batch_size=batch_size,
        sampler=order,
        drop_last=drop_last,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        num_workers=0,  # a row is index arithmetic on mapped memory, and reads the epoch of its order
        generator=torch.Generator(),  # else the loader draws from torch's default generator at every epoch
    )


def _as_it_is(batch: Batch) -> Batch:
    """`ImageRows` makes whole batches."""
    return batch
