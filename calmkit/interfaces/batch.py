"""Batch: what a kind of data hands to both stages, and nobody asks what it is made of.

A *row* is what is drawn as a whole (a stretch of text, an image), a *unit* what one autoregressive step
produces. `data` is whatever the autoencoders of that kind read; all else is said by unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


@final
@dataclass(eq=False)
class Batch:
    """Some rows of data: a value, which nobody changes. (Lightning refuses to convert a frozen one.)

    Attributes:
        data: `[B, L, *]` where each unit stands for itself, such as ids `[B, L, K]`; else a whole row at
            once, such as an image `[B, C, H, W]`, from which the autoencoder makes L units.
        valid: `[B, L]`, which units are real.
        predict: `[B, L]`, which of them count in a loss; None: all real ones.
        condition: Name -> one value per row `[B, ...]`, such as `label`; empty where there is none.
        group: `[B, L]`, what each unit comes from, such as its document or its image: the same number in
            every batch. Units of one group are not independent, so intervals are taken over groups. None:
            not known.
    """

    data: Shaped[Tensor, "*rows_and_data"]
    valid: Bool[Tensor, "B L"]
    predict: Bool[Tensor, "B L"] | None = None
    condition: Mapping[str, Shaped[Tensor, "B *value"]] = field(default_factory=dict)
    group: Int[Tensor, "B L"] | None = None

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def counted(self) -> Bool[Tensor, "B L"]:
        """Which units count in a loss: real, and to be predicted."""
        return self.valid if self.predict is None else self.valid & self.predict

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on a device."""

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=non_blocking)

        data, valid = self.data.to(device, non_blocking=non_blocking), self.valid.to(device)
        condition = {name: value.to(device) for name, value in self.condition.items()}
        return Batch(data, valid, moved(self.predict), condition, moved(self.group))

    def rows(self, index: Tensor | slice) -> Batch:
        """Some of the rows."""

        def picked(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        condition = {name: value[index] for name, value in self.condition.items()}
        return Batch(self.data[index], self.valid[index], picked(self.predict), condition, picked(self.group))
