"""Images as rows: each is one row of a batch, its units the places of its autoencoder's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset

from calmkit.data.order import NO_ROW
from calmkit.images.corpus import Images
from calmkit.interfaces import Batch

MIRRORED = 1  # beside seed and epoch: else the coins would be those that permuted the rows


def mirrored(places: Sequence[int], num_rows: int, seed: int) -> Bool[Tensor, " places"]:
    """Which places of training (`TrainingStream`) are seen left to right: a fair coin for each row of each
    epoch, whatever batch it comes in.
    """
    epochs, rows = np.divmod(np.asarray(places), num_rows)
    coins = {
        epoch: np.random.Generator(np.random.PCG64((seed, epoch, MIRRORED))).random(num_rows) < 0.5
        for epoch in np.unique(epochs).tolist()
    }
    thrown = [coins[epoch][row] for epoch, row in zip(epochs.tolist(), rows.tolist(), strict=True)]
    return torch.tensor(thrown, dtype=torch.bool)


@final
class ImageRows(Dataset[Batch]):
    """Images as batches: `data` [B, C, H, W] float32 in [-1, 1], all units valid, the label in `condition`
    where there is one, and as `group` of each unit the number of its image in the split.

    Args:
        images: The split.
        layout: The grid of units `(h, w)` that the autoencoder makes of an image.

    Raises:
        ValueError: The layout is no grid.
    """

    def __init__(self, images: Images, layout: tuple[int, int]) -> None:
        if len(layout) != 2 or min(layout) < 1:
            raise ValueError(f"the layout of an image is a grid of 1 by 1 or more, got {layout}")
        self.images, self.units = images, math.prod(layout)

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
        data[~valid] = 0
        condition = {}
        if self.images.labels is not None:
            condition["label"] = torch.from_numpy(np.where(real, self.images.labels[number], 0))
        units = (len(rows), self.units)
        group = torch.from_numpy(number)[:, None].expand(units).contiguous()
        return Batch(data, valid[:, None].expand(units).contiguous(), condition=condition, group=group)
