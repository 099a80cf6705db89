"""Distances between two sets of images, from their features: Frechet and kernel, both through torchmetrics.

Frechet: |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of means and covariances. Kernel: the squared maximum mean
discrepancy under (x . y / F + 1)^3, unbiased, so that it may come out below 0.

Source: Heusel et al., 2017, https://arxiv.org/abs/1706.08500; Binkowski et al., Demystifying MMD GANs, 2018,
section 4, https://arxiv.org/abs/1801.01401.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calmkit.images.measures.intervals import Estimate, around

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance

ROWS = 1024  # of the kernel's matrix at once


Resamples = tuple[Int[Tensor, "R N"], Int[Tensor, "R M"]]
"""Indices of the real and of the drawn images, from `intervals.resampled`."""


def frechet_distance(
    real: Float[Tensor, "N F"], drawn: Float[Tensor, "M F"], resamples: Resamples | None = None
) -> Estimate:
    """Frechet distance of two sets of features, in squared units of the features; 0 at best.

    It falls as either set grows, even for two samples of one law: read it beside a floor of as many images.

    Args:
        real: At least 2.
        drawn: At least 2.
        resamples: Of both sets, for the interval; None: without.
    """
    metric = _accumulator(real.shape[1])
    lines = [] if resamples is None else zip(*resamples, strict=True)
    replicates = [_frechet(metric, real[one], drawn[other]) for one, other in lines]
    return around(_frechet(metric, real, drawn), real.new_tensor(replicates))


def kernel_distance(
    real: Float[Tensor, "N F"], drawn: Float[Tensor, "M F"], resamples: Resamples | None = None
) -> Estimate:
    """Kernel distance of two sets of features, without a unit; 0 on average for two samples of one law.

    An image that a resample holds twice is never compared with itself.

    Args:
        real: At least 2.
        drawn: At least 2.
        resamples: Of both sets, for the interval; None: without.
    """
    ones, others = resamples or (torch.empty(0, len(real)).long(), torch.empty(0, len(drawn)).long())
    x, y = _counts(ones, real), _counts(others, drawn)
    between = _summed(real, drawn, x, y) / (len(real) * len(drawn))
    values = _distinct(real, x) + _distinct(drawn, y) - 2 * between  # [1 + R], the sets themselves first
    return around(float(values[0]), values[1:])


class _Given(nn.Module):
    """Stands for a feature network where features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _accumulator(num_features: int) -> FrechetInceptionDistance:
    from torchmetrics.image.fid import FrechetInceptionDistance

    return FrechetInceptionDistance(_Given(num_features), normalize=True)


def _frechet(metric: FrechetInceptionDistance, real: Tensor, drawn: Tensor) -> float:
    metric.reset()
    metric.update(real, real=True)
    metric.update(drawn, real=False)
    return max(float(metric.compute()), 0.0)  # equal sets come out at 0 give or take rounding


def _counts(index: Int[Tensor, "R N"], features: Float[Tensor, "N F"]) -> Float[Tensor, "R1 N"]:
    """How often each resample holds each image; before them the set itself, each image once."""
    counts = features.new_zeros(len(index), len(features))
    counts.scatter_add_(1, index, torch.ones_like(counts))
    return torch.cat([features.new_ones(1, len(features)), counts])


def _distinct(features: Float[Tensor, "N F"], counts: Float[Tensor, "R1 N"]) -> Float[Tensor, " R1"]:
    """Mean of the kernel over pairs of different images, each as often as it is held."""
    from torchmetrics.image.kid import poly_kernel

    own = torch.cat([poly_kernel(one, one).flatten() for one in features.split(1)])
    pairs = counts.shape[1] ** 2 - counts.square().sum(1)
    return (_summed(features, features, counts, counts) - counts.square() @ own) / pairs


def _summed(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor) -> Tensor:
    """Sum of the kernel over all pairs, each as often as both are held; a part of the matrix at once."""
    from torchmetrics.image.kid import poly_kernel

    parts = zip(x.split(ROWS), of_x.split(ROWS, dim=1), strict=True)
    return sum(((held @ poly_kernel(part, y) * of_y).sum(1) for part, held in parts), x.new_zeros(()))
