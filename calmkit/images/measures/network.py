"""FeatureNetwork: a small classifier whose last hidden values are what images are compared by.

Distances between sets of images are taken in the features of a classifier; the usual one, Inception, is made
for 299 x 299 photographs and has to be fetched. This one is trained on the data at hand.

Source: features of a classifier, Heusel et al., 2017. https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEATURES = 64
WIDTH = 32  # of the first convolution
DROPOUT = 0.2


@final
class FeatureNetwork(nn.Module):
    """Convolutions that halve an image until its shorter side is below 8, a mean over places, a linear map.

    Features are centred and divided by one number, so that over the training images their mean is 0 and
    their variances sum to `num_features`: distances of different data sets are read on one scale.

    Args:
        shape: C, H, W of an image; H and W at least 8.
        classes: How many the linear map tells apart; at least 1.

    Attributes:
        num_features: F. By this name torchmetrics asks for it, so the network can be given to its metrics.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.num_features = FEATURES
        layers: list[nn.Module] = [_convolution(channels, WIDTH), nn.GELU()]
        before = WIDTH
        for _ in range(int(math.log2(min(height, width) / 4))):
            layers += [_convolution(before, FEATURES), nn.GELU(), nn.AvgPool2d(2)]
            before = FEATURES
        self.trunk = nn.Sequential(*layers, _convolution(before, FEATURES), nn.GELU())
        self.dropout = nn.Dropout(DROPOUT)
        self.classify = nn.Linear(FEATURES, classes, dtype=torch.float32)
        self.register_buffer("centre", torch.zeros(FEATURES, dtype=torch.float32))
        self.register_buffer("scale", torch.ones((), dtype=torch.float32))

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """Features of images in [-1, 1]."""
        return (self._hidden(images) - self.centre) / self.scale

    def logits(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N classes"]:
        """Log odds of the classes, up to a constant per image."""
        return self.classify(self.dropout(self._hidden(images)))

    @torch.no_grad()
    def normalise(self, hidden: Float[Tensor, "N F"]) -> None:
        """Set centre and scale from the features of the training images, before either was set."""
        self.centre.copy_(hidden.mean(0))
        spread = float(hidden.double().var(0).mean().sqrt()) if len(hidden) > 1 else 0.0
        self.scale.fill_(spread or 1.0)  # images that are all the same have no spread to divide by

    def _hidden(self, images: Tensor) -> Tensor:
        return self.trunk(images.to(self.centre.dtype)).mean((-2, -1))


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, dtype=torch.float32)
