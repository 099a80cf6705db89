"""Precision and recall: are the drawn images such as there are, and are all that there are drawn?

A set covers a point that lies no further from one of its members than that member's k-th nearest other.
Precision is the share of drawn images that the real ones cover, recall the share of real ones that the drawn
cover.

Source: Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019,
section 3, k = 3. https://arxiv.org/abs/1904.06991
"""

from __future__ import annotations

from typing import final

import torch
import torchmetrics
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.images.measures.intervals import Estimate, share

NEIGHBOURS = 3
ROWS = 512  # points whose distances are held at once


def precision_and_recall(
    real: Float[Tensor, "N F"], drawn: Float[Tensor, "M F"], neighbours: int = NEIGHBOURS
) -> tuple[Estimate, Estimate]:
    """Both shares, in [0, 1]. The intervals take the covering set as it is.

    With fewer images the spheres are larger, so sets of different sizes don't compare.

    Raises:
        ValueError: A set holds no more than `neighbours` images.
    """
    precision = share(covered(drawn, real, neighbours))
    return precision, share(covered(real, drawn, neighbours))


def covered(
    points: Float[Tensor, "N F"], by: Float[Tensor, "M F"], neighbours: int = NEIGHBOURS
) -> Bool[Tensor, " N"]:
    """Which points a set covers.

    Raises:
        ValueError: The set holds no more than `neighbours` points.
    """
    if not 1 <= neighbours < len(by):
        raise ValueError(
            f"precision and recall look at the {neighbours} nearest others of each image, and a set holds "
            f"{len(by)}; give more images, or ask for fewer neighbours (at least 1)."
        )
    radii = torch.cat([_far(part, by).kthvalue(neighbours + 1).values for part in by.split(ROWS)])
    return torch.cat([(_far(part, by) <= radii).any(1) for part in points.split(ROWS)])


def _far(points: Tensor, others: Tensor) -> Tensor:
    """Distances without the shortcut through products, which gives a point a distance to itself."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


@final
class PrecisionRecall(torchmetrics.Metric):
    """Precision and recall over any number of updates and processes.

    Args:
        neighbours: k.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    real: list[Tensor]
    drawn: list[Tensor]

    def __init__(self, neighbours: int = NEIGHBOURS) -> None:
        super().__init__()
        self.neighbours, self.width = neighbours, 1
        # Flat, because torchmetrics joins a process that saw nothing as an empty vector.
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("drawn", default=[], dist_reduce_fx="cat")

    def update(self, features: Float[Tensor, "N F"], real: bool) -> None:
        """Add the features of real or of drawn images."""
        self.width = features.shape[1]
        (self.real if real else self.drawn).append(features.flatten())

    def compute(self) -> dict[str, Tensor]:
        """`precision` and `recall`, with `_low`, `_high` and `_se` of each.

        Raises:
            ValueError: Of either kind there are no more than k images.
        """
        if len(self.real) == 0 or len(self.drawn) == 0:
            raise ValueError("precision and recall need real and drawn images, and of one there are none.")
        real, drawn = (dim_zero_cat(part).view(-1, self.width) for part in (self.real, self.drawn))
        precision, recall = precision_and_recall(real, drawn, self.neighbours)
        found = precision.named("precision") | recall.named("recall")
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}
