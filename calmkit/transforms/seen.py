"""What `normalise` learns of values that pass by once, in batches: their moments, or their quantiles.

Sources: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983 (moments of two sets
together). https://doi.org/10.1080/00031305.1983.10483115
Vitter, Random Sampling with a Reservoir, 1985 (a sample of what passes by). https://doi.org/10.1145/3147.3165
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

NORMAL_IQR = 1.3489795003921634  # between the quartiles of N(0, 1)
QUARTILES = (0.25, 0.5, 0.75)  # fractions, as torch.quantile takes them


@final
class Moments:
    """Mean and standard deviation of each column, summed in float64 around the mean so far."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Float[Tensor, "n W"]) -> None:
        """Take `n` more values of each column, at least one."""
        values = values.double()
        n, mean = len(values), values.mean(0)
        gap, total = mean - self.mean, self.count + n
        within = (values - mean).square().sum(0)
        self.squares = self.squares + within + gap.square() * (self.count * n / total)
        self.mean = self.mean + gap * (n / total)
        self.count = total

    def center_and_scale(self) -> tuple[Float[Tensor, " W"], Float[Tensor, " W"]]:
        """Mean and standard deviation, the latter over n, not n - 1."""
        return self.mean, (self.squares / self.count).sqrt()


@final
class Reservoir:
    """Median and spread of each column, from a uniform sample of bounded size.

    Each row gets a random key, and those with the smallest keys stay. Up to `size` rows nothing is left to
    chance. Beyond, the quartiles of 65,536 rows from a normal distribution have a standard error of 0.5 % of
    its standard deviation.

    Args:
        size: Rows kept, in the dtype they come in.
        seed: Of the keys; torch's own generator is left alone.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.generator = torch.Generator().manual_seed(seed)
        self.keys = torch.empty(0, dtype=torch.float64)
        self.rows: Tensor | None = None

    def add(self, values: Float[Tensor, "n W"]) -> None:
        """Let `n` more rows pass by."""
        keys = torch.rand(len(values), dtype=torch.float64, generator=self.generator)
        if len(self.keys) == self.size:  # spares a copy of all that is kept for the few that enter
            enters = keys < self.keys.max()
            keys, values = keys[enters], values[enters]
        self.keys = torch.cat([self.keys, keys])
        self.rows = values.clone() if self.rows is None else torch.cat([self.rows, values])
        if len(self.keys) > self.size:
            self.keys, kept = self.keys.topk(self.size, largest=False)
            self.rows = self.rows[kept]

    def center_and_scale(self) -> tuple[Float[Tensor, " W"], Float[Tensor, " W"]]:
        """Median, and the range between the quartiles in units of the one of N(0, 1)."""
        assert self.rows is not None
        at = torch.tensor(QUARTILES, dtype=torch.float64)
        low, median, high = torch.quantile(self.rows.double(), at, 0)
        return median, (high - low) / NORMAL_IQR
