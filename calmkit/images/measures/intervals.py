"""Estimates with intervals by image: one image is one block, since images are drawn independently.

Shares have Wilson's interval, which is none of zero width at 0 and 1. Everything else is resampled over
images, and the replicates are moved so that their mean is the number itself. The moving matters: a Frechet
distance is biased upward with few images, and its replicates, which see fewer different ones, are so once
more, so that their plain percentiles lie above the number. What is left says how far the number would stray
with other images of the same count and labels; the bias stays in the number, and the floor beside it tells
its size. Between sets of nearly one law the intervals are too wide: over 60 pairs of 360 drawn digits the
standard error was told as 0.18 where the distances strayed by 0.10, and each interval held their mean.

Source: Wilson, 1927, https://doi.org/10.1080/01621459.1927.10502953; percentile intervals, Efron and
Tibshirani, 1993, section 13.3, https://doi.org/10.1201/9780429246593; bias of the Frechet distance,
Binkowski et al., 2018, appendix D, https://arxiv.org/abs/1801.01401.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95


@final
@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval and its standard error; NaN where there is none.

    Attributes:
        value: The number.
        low: Lower end.
        high: Upper end.
        se: Standard error.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    se: float = math.nan

    def named(self, name: str) -> dict[str, float]:
        """`name`, `name_low`, `name_high` and `name_se`, without those that are NaN."""
        ends = {"low": self.low, "high": self.high, "se": self.se}
        return {name: self.value} | {f"{name}_{k}": v for k, v in ends.items() if not math.isnan(v)}


def resampled(
    num: int, resamples: int, seed: int, labels: Int[Tensor, " N"] | None = None
) -> Int[Tensor, "R N"]:
    """`resamples` times, indices of `num` images of `num`, with replacement.

    Args:
        num: N.
        resamples: R.
        seed: The same seed gives the same indices.
        labels: Each label keeps its number of images, for sets whose labels were not left to chance: those a
            model was asked for, those of a split that was made by class. None: all from all.
    """
    chance = torch.Generator().manual_seed(seed)
    if labels is None:
        return torch.randint(num, (resamples, num), generator=chance)
    index = torch.empty(resamples, num, dtype=torch.long)
    for label in labels.unique():
        own = (labels == label).nonzero().flatten()
        index[:, own] = own[torch.randint(len(own), (resamples, len(own)), generator=chance)]
    return index


def around(value: float, replicates: Float[Tensor, " R"]) -> Estimate:
    """A number with the spread of its replicates, moved to lie around it; no interval for fewer than 2.

    Replicates that are no numbers are left out: of very few images, one may hold a single image alone.
    """
    replicates = replicates[replicates.isfinite()]
    if len(replicates) < 2:
        return Estimate(value)
    tail = (1 - LEVEL) / 2
    moved = replicates - replicates.mean() + value
    low, high = moved.quantile(moved.new_tensor([tail, 1 - tail])).tolist()
    return Estimate(value, low, high, float(moved.std()))


def share(right: Bool[Tensor, " N"]) -> Estimate:
    """The share of images of which something is true, with Wilson's interval."""
    from scipy.stats import binomtest

    count, num = int(right.sum()), len(right)
    ends = binomtest(count, num).proportion_ci(LEVEL, method="wilson")
    value = count / num
    return Estimate(value, float(ends.low), float(ends.high), math.sqrt(value * (1 - value) / num))
