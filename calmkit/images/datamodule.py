"""Batches of images for Lightning."""

from __future__ import annotations

from typing import Any, final

from calmkit.data.datamodule import Rows, RowsDataModule
from calmkit.data.order import SeededOrder
from calmkit.images.corpus import Images
from calmkit.images.rows import ImageRows


@final
class ImageDataModule(RowsDataModule):
    """Images of two splits.

    Args:
        train: Of which every epoch has its own order.
        valid: Held out.
        layout: The grid of units that the autoencoder makes of an image.
        flip: In training, half of the images are mirrored left to right, others in every epoch.
        **options: As of `RowsDataModule`.

    Raises:
        DataError: There are too few images for one batch.
    """

    def __init__(
        self,
        train: Images,
        valid: Images,
        *,
        layout: tuple[int, int],
        flip: bool = False,
        **options: Any,
    ) -> None:
        self._flipping = (train, layout) if flip else None
        cure = "give more images, or lower batch_size"
        rows = (ImageRows(images, layout) for images in (train, valid))
        super().__init__(*rows, called="images", cure=cure, **options)

    def rows_as_trained(self, order: SeededOrder) -> Rows:
        """Mirrored by the seed and the epoch of their order, where that was asked for."""
        return ImageRows(*self._flipping, flips=order) if self._flipping else self.train_rows
