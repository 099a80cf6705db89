"""Blocks: what a mean over units that are not independent is worth, counted over what they come from.

Source: ratio estimator, Cochran, Sampling Techniques, 1977, section 6.3; percentile intervals, Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3. https://doi.org/10.1201/9780429246593
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

REPLICATES = 1000  # of the bootstrap: the ends of a 95 % interval then rest on 25 replicates each
BLOCK = 2**22  # elements of one block of replicates, 32 MiB
BOOTSTRAP_SEED = 0  # the same counts give the same interval
FEWEST_GROUPS = 10  # below that an interval over groups is too rough to be shown
UNKNOWN = -1  # the number of a group that nobody knows


def ratio_standard_error(
    row_sums: Float[Tensor, "R *statistics"], row_counts: Float[Tensor, " R"]
) -> Float[Tensor, "*statistics"]:
    """Standard error of `sum(row_sums) / sum(row_counts)` with rows as independent clusters.

    se^2 = R / (R - 1) * sum_r (s_r - m n_r)^2 / (sum_r n_r)^2, where m is the ratio. NaN with a single row.

    Source:
        Cochran, Sampling Techniques, 1977, Eq. 6.13 (the ratio estimator, linearised).
    """
    rows = len(row_counts)
    counts = row_counts.view(-1, *[1] * (row_sums.ndim - 1))
    residuals = row_sums - row_sums.sum(0) / counts.sum() * counts
    if rows < 2:
        return torch.full_like(residuals[0], float("nan"))
    return (residuals.square().sum(0) * rows / (rows - 1)).sqrt() / counts.sum()


def resampled_means(
    row_sums: Float[Tensor, "R columns"], row_counts: Float[Tensor, " R"]
) -> Float[Tensor, "replicates columns"]:
    """`sum(row_sums) / sum(row_counts)` of `REPLICATES` draws of as many rows, the same on every call."""
    rows = len(row_counts)
    generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
    columns = torch.cat([row_sums, row_counts.unsqueeze(1)], 1)
    means = []
    for block in torch.arange(REPLICATES).split(max(1, BLOCK // rows)):
        picks = torch.randint(rows, (len(block), rows), generator=generator)
        times = columns.new_zeros(len(block), rows).scatter_add_(1, picks, columns.new_ones(picks.shape))
        totals = times @ columns
        means.append(totals[:, :-1] / totals[:, -1:])
    return torch.cat(means)


def grouped(keys: Float[Tensor, "N keys"], sums: Float[Tensor, "N columns"]) -> Float[Tensor, "G columns"]:
    """Sums of the lines with equal keys, in the order of the keys."""
    ids, group = keys.unique(dim=0, return_inverse=True)
    return sums.new_zeros(len(ids), sums.shape[1]).index_add_(0, group, sums)
