"""Rows of T values, as batches of units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.utils.data import Dataset

from calmkit.data.order import NO_ROW
from calmkit.interfaces import Batch
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
