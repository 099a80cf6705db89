"""Class accuracy: the share of drawn images that the feature network puts into the class they were asked of.

Source: classification accuracy of conditional draws, Ravuri and Vinyals, 2019 (there a classifier is trained
on draws; here one that knows real images judges draws). https://arxiv.org/abs/1905.10887
"""

from __future__ import annotations

from typing import final

import torch
import torchmetrics
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.images.measures.features import Features
from calmkit.images.measures.intervals import Estimate, share


def class_accuracy(
    features: Features, images: Float[Tensor, "N C H W"], asked: Int[Tensor, " N"]
) -> Estimate:
    """Of images in [-1, 1]: the share in [0, 1] that is seen as what was asked for.

    Real held-out images reach the network's own accuracy, `features.accuracy`, and no more is to be expected
    of draws; a model that draws only the plainest image of each class may pass it.

    Raises:
        ValueError: The network knows no classes.
    """
    return share(features.classes_of(images) == asked.cpu())


@final
class ClassAccuracy(torchmetrics.Metric):
    """Class accuracy over any number of updates and processes.

    Args:
        features: With a network that knows classes.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    right: list[Tensor]

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features
        self.add_state("right", default=[], dist_reduce_fx="cat")

    def update(self, images: Float[Tensor, "N C H W"], asked: Int[Tensor, " N"]) -> None:
        """Add images in [-1, 1] and what was asked for."""
        self.right.append(self.features.classes_of(images) == asked.cpu())

    def compute(self) -> dict[str, Tensor]:
        """`class_accuracy`, with `_low`, `_high` and `_se`.

        Raises:
            ValueError: Before any image.
        """
        if len(self.right) == 0:
            raise ValueError("class accuracy is a share of drawn images, and there are none.")
        seen: Bool[Tensor, " N"] = dim_zero_cat(self.right)
        found = share(seen).named("class_accuracy")
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}
