"""Batches of images for Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from calmkit.data.datamodule import RowsDataModule
from calmkit.images.corpus import Images
from calmkit.images.rows import ImageRows, mirrored
from calmkit.interfaces import Batch


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
        self._flip = flip
        cure = "give more images, or lower batch_size"
        rows = (ImageRows(images, layout) for images in (train, valid))
        super().__init__(*rows, called="images", cure=cure, **options)

    def trained_rows(self, places: Sequence[int]) -> Batch:
        """Mirrored by the seed and the epoch of each place, where that was asked for."""
        batch = super().trained_rows(places)
        if self._flip:
            flip = mirrored(places, len(self.train_rows), self.seed)
            batch.data[flip] = batch.data[flip].flip(-1)
        return batch
