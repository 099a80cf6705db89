"""Images as rows: each is one row of a batch, its units the places of its autoencoder's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Bool
from torch.utils.data import Dataset

from calmkit.data.order import NO_ROW, SeededOrder
from calmkit.images.corpus import Images
from calmkit.interfaces import Batch

MIRRORED = 1  # beside seed and epoch: else the coins would be those that permuted the rows


def mirrored(num_rows: int, seed: int, epoch: int) -> Bool[np.ndarray, " rows"]:
    """Which images are seen left to right in an epoch: a fair coin for each, whatever batch it comes in."""
    return np.random.Generator(np.random.PCG64((seed, epoch, MIRRORED))).random(num_rows) < 0.5


@final
class ImageRows(Dataset[Batch]):
    """Images as batches: `data` [B, C, H, W] float32 in [-1, 1], all units valid, the label in `condition`
    where there is one, and as `group` of each unit the number of its image in the split.

    Args:
        images: The split.
        layout: The grid of units `(h, w)` that the autoencoder makes of an image.
        flips: Half of the images are mirrored left to right, by the seed and the epoch of this order; None:
            none.

    Raises:
        ValueError: The layout is no grid.
    """

    def __init__(self, images: Images, layout: tuple[int, int], *, flips: SeededOrder | None = None) -> None:
        if len(layout) != 2 or min(layout) < 1:
            raise ValueError(f"the layout of an image is a grid of 1 by 1 or more, got {layout}")
        self.images, self.units, self.flips = images, math.prod(layout), flips
        self._coins: tuple[int, np.ndarray] | None = None  # of the epoch that was asked for last

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one row; `NO_ROW` gives one without valid units."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch at once: what the loader asks for first. A row without valid units is grey, its label and
        its group are 0.
        """
        rows = np.asarray(indices, dtype=np.int64)
        if ((rows < NO_ROW) | (rows >= len(self))).any():
            raise IndexError(f"rows {rows.tolist()} of {len(self)}")
        real = rows != NO_ROW
        number = np.where(real, rows, 0)
        pixels = torch.from_numpy(np.ascontiguousarray(self.images.pixels[number]))
        data = pixels.to(torch.float32).div_(127.5).sub_(1)  # [B, C, H, W]
        valid = torch.from_numpy(real)
        flip = torch.from_numpy(self._flipped(number))
        data[flip] = data[flip].flip(-1)
        data[~valid] = 0
        condition = {}
        if self.images.labels is not None:
            condition["label"] = torch.from_numpy(np.where(real, self.images.labels[number], 0))
        units = (len(rows), self.units)
        group = torch.from_numpy(number)[:, None].expand(units).contiguous()
        return Batch(data, valid[:, None].expand(units).contiguous(), condition=condition, group=group)

    def _flipped(self, number: np.ndarray) -> np.ndarray:
        if self.flips is None:
            return np.zeros(len(number), dtype=bool)
        epoch = self.flips.epoch
        if self._coins is None or self._coins[0] != epoch:
            self._coins = epoch, mirrored(len(self), self.flips.seed, epoch)
        return self._coins[1][number]
