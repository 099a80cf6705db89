"""Noisy damped oscillators: series whose best possible scores are known.

    x_t = 2 r cos(2 pi / period) x_{t-1} - r^2 x_{t-2} + noise e_t,    e_t ~ N(0, 1)

This autoregression of order 2 is what a pendulum does that is pushed at random; each series begins in its
stationary law.

Source: Yule, On a Method of Investigating Periodicities in Disturbed Series, 1927.
https://doi.org/10.1098/rsta.1927.0007
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
from jaxtyping import Float

from calmkit.data.digest import digest
from calmkit.interfaces import Split
from calmkit.nn.settings import require_at_least
from calmkit_series.corpus import KnownLaw, Stretch

STREAMS: dict[Split, int] = {"train": 1, "valid": 2}


@final
class WavesCorpus(KnownLaw):
    """Independent noisy damped oscillators of one period; their best scores are known.

    Args:
        period: Values per turn, above 2.
        damping: r, in (0, 1): the nearer to 1, the longer a series swings.
        noise: Standard deviation of the push at each value.
        seed: Of the series.
        train_series: How many there are to train on.
        valid_series: How many are held out.
        length: Values in a series.

    Raises:
        ValueError: A setting out of its range.
    """

    def __init__(
        self,
        *,
        period: float = 12.0,
        damping: float = 0.95,
        noise: float = 0.5,
        seed: int = 0,
        train_series: int = 1024,
        valid_series: int = 128,
        length: int = 64,
    ) -> None:
        sizes = {"train_series": train_series, "valid_series": valid_series, "length": length}
        require_at_least("series_waves", 1, **sizes)
        require_at_least("series_waves", 0, seed=seed)
        if not period > 2:
            raise ValueError(f"series_waves: period must be above 2, got {period}; 12 would do")
        if not 0 < damping < 1:
            raise ValueError(f"series_waves: damping must lie between 0 and 1, got {damping}; 0.95 would do")
        if not noise > 0:
            raise ValueError(f"series_waves: noise must be above 0, got {noise}; 0.5 would do")
        self.first, self.second = 2 * damping * math.cos(2 * math.pi / period), -(damping**2)
        self.noise, self.seed, self.length = noise, seed, length
        self.num_series: dict[Split, int] = {"train": train_series, "valid": valid_series}

    def stretches(self, split: Split) -> list[Stretch]:
        """Whole series, each drawn from the stationary law; `valid` shares only the law with `train`."""
        random = np.random.default_rng([self.seed, STREAMS[split]])
        pushes = random.standard_normal((self.num_series[split], self.length))
        values = pushes @ np.linalg.cholesky(self.covariance(self.length)).T
        return [Stretch(number, one) for number, one in enumerate(values)]

    def covariance(self, length: int) -> Float[np.ndarray, "n n"]:
        """By the recursion of Yule and Walker, which the covariances of any distance obey."""
        a, b = self.first, self.second
        variance = self.noise**2 * (1 - b) / ((1 + b) * ((1 - b) ** 2 - a**2))
        apart = [variance, variance * a / (1 - b)]
        for _ in range(2, length):
            apart.append(a * apart[-1] + b * apart[-2])
        place = np.arange(length)
        return np.array(apart)[np.abs(place[:, None] - place)]

    def identity(self) -> str:
        """By all settings, and by the numbers, which another version of NumPy may draw differently."""
        settings = (self.first, self.second, self.noise, self.seed, self.length, *self.num_series.values())
        return f"series_waves-{digest(repr(settings), self.stretches('valid')[0].values.tobytes())}"
