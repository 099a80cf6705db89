"""Series units: the identity on P values that follow each other, with a little noise where wished.

Source: GIVT predicts real-valued units as they are: Tschannen et al., 2023. https://arxiv.org/abs/2312.02116
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.interfaces import EventSpec, LossOutput, NotTrainable, Posterior, UnitwiseAutoencoder


@final
class SeriesUnits(UnitwiseAutoencoder):
    """P values of a series are a unit, and its value is just these.

    Args:
        series_length: T, values in a row, a multiple of P.
        width: P.
        noise: Standard deviation of the posterior around the values, in their own unit; 0: a point. A density
            head learns the law with that much blur, and can't shrink onto a value that repeats.

    Raises:
        ValueError: A width that does not divide the row, or noise below 0.

    Source:
        Tschannen et al., 2023.
    """

    sizes = ("series_length",)
    discrete = False

    def __init__(self, series_length: int, *, width: int = 4, noise: float = 0.0) -> None:
        super().__init__()
        if width < 1 or series_length % width:
            raise ValueError(
                f"series_units: width must divide a row of {series_length} values (data.sequence_length), "
                f"got {width}; 1 would do"
            )
        if noise < 0:
            raise ValueError(f"series_units: noise must be at least 0, got {noise}; 0 is none")
        self.event, self.unit_shape, self.noise = EventSpec((width,)), (width,), noise

    def encode(self, data: Float[Tensor, "*units P"]) -> Posterior:
        """The values, with the noise around them."""
        log_std = torch.full_like(data, math.log(self.noise)) if self.noise else None
        return Posterior(data, log_std)

    def decode(self, z: Float[Tensor, "*units P"]) -> Float[Tensor, "*units P"]:
        """The values."""
        return z

    def to_data(self, z: Float[Tensor, "*units P"]) -> Float[Tensor, "*units P"]:
        """The values."""
        return z

    def loss(self, data: Float[Tensor, "B L P"]) -> LossOutput:
        """Nothing is learnt.

        Raises:
            NotTrainable: Always.
        """
        raise NotTrainable("series_units has no parameters")
