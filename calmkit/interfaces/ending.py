"""Ending: when a row of units is over, for kinds of data whose rows have no fixed length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor


class Ending(ABC):
    """Reads the end of a row off its data.

    Attributes:
        fill: What every number of a unit is that comes after the end of its row.
    """

    fill: int | float = 0

    @abstractmethod
    def opens(self, last: Shaped[Tensor, "*rows_and_data"]) -> Bool[Tensor, " B"]:
        """Given the last unit of each prompt: whether the next one opens something new."""

    @abstractmethod
    def tidy(
        self, data: Shaped[Tensor, "*num_rows_and_data"], opens: Bool[Tensor, "num R"]
    ) -> Shaped[Tensor, "*num_rows_and_data"]:
        """Draws of a unit with what stands behind an end replaced by the fill."""

    @abstractmethod
    def ended(self, data: Shaped[Tensor, "*rows_and_data"], opens: Bool[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Whether a row is over with this unit, which `tidy` returned."""


@final
class NeverEnds(Ending):
    """For rows that are as long as one asks for."""

    def opens(self, last: Shaped[Tensor, "*rows_and_data"]) -> Bool[Tensor, " B"]:
        """Nothing does."""
        return torch.zeros(len(last), dtype=torch.bool, device=last.device)

    def tidy(
        self, data: Shaped[Tensor, "*num_rows_and_data"], opens: Bool[Tensor, "num R"]
    ) -> Shaped[Tensor, "*num_rows_and_data"]:
        """As they are."""
        del opens
        return data

    def ended(self, data: Shaped[Tensor, "*rows_and_data"], opens: Bool[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Never."""
        return torch.zeros_like(opens)
