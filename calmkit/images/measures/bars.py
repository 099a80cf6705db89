"""Bars: what stands beside every model's numbers, and has to be beaten or must not be resembled.

`GaussianPerClass` knows of each class no more than the mean and the covariance of its pixels; a model worth
its training is better. `TrainingCopies` hands out training images: nothing is nearer to the held-out ones,
its Frechet distance is the floor, and only the distance to the nearest training image gives it away.
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHRINKAGE = 0.01  # enough for a covariance that can be inverted; more made a weaker bar on digits


@final
class _Classes:
    """Training images by class."""

    def __init__(self, images: Tensor, labels: Tensor | None) -> None:
        self.images = images
        self.labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels.cpu()

    def of(self, label: int) -> Tensor:
        """The images of a class.

        Raises:
            ValueError: There are none.
        """
        found = self.images[self.labels == label]
        if len(found) == 0:
            there = ", ".join(str(one) for one in self.labels.unique().tolist())
            raise ValueError(
                f"no training image has the label {label}, which was asked for; there are {there}."
            )
        return found


@final
class GaussianPerClass:
    """A Gaussian with a full covariance per class, in the space of pixels.

    The covariance S is shrunk to (1 - s) S + s v I, with v the mean variance of a pixel, so that it is
    positive definite where images differ at all. Draws are weighted sums of the class's centred images plus
    noise, which has just this law and needs no matrix of pixels by pixels.

    Args:
        images: The training split, in [-1, 1].
        labels: From 0 on; None: one Gaussian for all, whose label is 0.
        shrinkage: s, in [0, 1].

    Raises:
        ValueError: For another shrinkage.
    """

    def __init__(
        self,
        images: Float[Tensor, "N C H W"],
        labels: Int[Tensor, " N"] | None = None,
        shrinkage: float = SHRINKAGE,
    ) -> None:
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"a covariance is shrunk by a share from 0 to 1, got {shrinkage}")
        self.classes, self.shrinkage = _Classes(images, labels), shrinkage

    def draw(self, labels: Int[Tensor, " M"], seed: int = 0) -> Float[Tensor, "M C H W"]:
        """One image for each label, cut to [-1, 1].

        Raises:
            ValueError: For a label that no training image has.
        """
        shape = self.classes.images.shape[1:]
        drawn = self.classes.images.new_zeros(len(labels), math.prod(shape))
        noise = torch.Generator().manual_seed(seed)
        for label in labels.unique().tolist():
            drawn[labels == label] = self._of(label, int((labels == label).sum()), noise)
        return drawn.clamp(-1, 1).view(-1, *shape)

    def _of(self, label: int, num: int, noise: torch.Generator) -> Tensor:
        rows = self.classes.of(label).flatten(1)  # [n, C * H * W]
        centred, free = rows - rows.mean(0), max(len(rows) - 1, 1)
        spread = (centred.square().sum(0) / free).mean().sqrt()
        weights = torch.randn(num, len(rows), generator=noise, dtype=rows.dtype)
        white = torch.randn(num, rows.shape[1], generator=noise, dtype=rows.dtype)
        inside = math.sqrt((1 - self.shrinkage) / free) * (weights @ centred)
        return rows.mean(0) + inside + math.sqrt(self.shrinkage) * spread * white


@final
class TrainingCopies:
    """Images of the training split, each once until a class has no more, and then from the start.

    Args:
        images: The training split.
        labels: From 0 on; None: all are of the label 0.
    """

    def __init__(self, images: Float[Tensor, "N C H W"], labels: Int[Tensor, " N"] | None = None) -> None:
        self.classes = _Classes(images, labels)

    def draw(self, labels: Int[Tensor, " M"], seed: int = 0) -> Float[Tensor, "M C H W"]:
        """One image for each label.

        Raises:
            ValueError: For a label that no training image has.
        """
        drawn = self.classes.images.new_zeros(len(labels), *self.classes.images.shape[1:])
        order = torch.Generator().manual_seed(seed)
        for label in labels.unique().tolist():
            own, asked = self.classes.of(label), labels == label
            shuffled = own[torch.randperm(len(own), generator=order)]
            drawn[asked] = shuffled[torch.arange(int(asked.sum())) % len(own)]
        return drawn
