"""Peak signal-to-noise ratio: how near an image comes to another, in the unit that papers state."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

PEAK = 2.0
"""From -1, black, to 1, white."""


def psnr_of(mse: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Decibel of mean squared errors of images in [-1, 1]: 10 log10(4 / mse); infinite where it is 0."""
    return 10 * (PEAK**2 / mse).log10()


def psnr(left: Float[Tensor, "*shape"], right: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Decibel between two batches of images in [-1, 1], of the squared error averaged over all their pixels.

    A decibel more is an error smaller by a factor of 1.12. Infinite where they are equal.
    """
    return psnr_of((left - right).square().mean())
