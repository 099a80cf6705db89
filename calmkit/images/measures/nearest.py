"""Nearest training image: does a model draw anew, or give back what it was shown?

Source: nearest neighbours in pixel space as a check for copying, Theis et al., A Note on the Evaluation of
Generative Models, 2016, section 3.3 (it also says what the check misses). https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calmkit.images.measures.distances import Resamples
from calmkit.images.measures.intervals import Estimate, around

ROWS = 64  # images whose distances are held at once


@final
class NearestTraining:
    """Finds for images the nearest of the training split, by the root of summed squares of their values.

    Args:
        training: In [-1, 1].
    """

    def __init__(self, training: Float[Tensor, "N C H W"]) -> None:
        self.training = training

    def find(self, images: Float[Tensor, "M C H W"]) -> tuple[Float[Tensor, " M"], Int[Tensor, " M"]]:
        """How far the nearest training image is, and which one it is."""
        rows = self.training.flatten(1)
        mode = "donot_use_mm_for_euclid_dist"  # which would give a copy a distance
        found = [torch.cdist(part, rows, compute_mode=mode).min(1) for part in images.flatten(1).split(ROWS)]
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def nearest_ratio(
    real: Float[Tensor, " N"], drawn: Float[Tensor, " M"], resamples: Resamples | None = None
) -> Estimate:
    """Mean distance of drawn images to their nearest training image, over that of held-out images.

    0 for copies, 1 for images that are as new as those held out, above 1 for images unlike all.

    Args:
        real: Distances of held-out images, from `NearestTraining.find`; where all are 0 the ratio is NaN.
        drawn: The same of drawn ones.
        resamples: Of both sets, for the interval; None: without.
    """
    if not real.any():
        return Estimate(math.nan)
    value = float(drawn.mean() / real.mean())
    if resamples is None:
        return Estimate(value)
    ones, others = resamples
    return around(value, drawn[others].mean(1) / real[ones].mean(1))
