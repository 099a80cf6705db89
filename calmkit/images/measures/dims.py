"""Nats per dimension: minus the log density of an image, told per number that it is made of.

Source: Theis et al., A Note on the Evaluation of Generative Models, 2016, section 3.1.
https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from calmkit.images.measures.intervals import RESAMPLES, Estimate, mean


def nats_per_dim(
    total_nats: Float[Tensor, " N"], dims: int, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean over images of minus their log density, over the dimensions of an image; lower is better.

    A density of latents has the latents' dimensions, and compares only among models of one autoencoder and
    one transform; it may be negative.

    Args:
        total_nats: Of each image, summed over its units.
        dims: Numbers that the density is of, per image: units times values per unit.
        resamples: Of images, for the interval; 0: none.
        seed: Of the resamples.

    Raises:
        ValueError: For dimensions below 1, or no image.
    """
    if dims < 1 or len(total_nats) == 0:
        raise ValueError(f"nats per dimension need dimensions and images, got {dims} and {len(total_nats)}")
    return mean(total_nats.detach().cpu().double() / dims, resamples, seed)
