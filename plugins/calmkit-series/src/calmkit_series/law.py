"""The best possible scores of a Gaussian law, by unit of a row: no model expects better ones.

A forecaster who knows the law gives N(mean, s^2) to each value given the units before, so the CRPS expects
s / sqrt(pi), and the density of a unit has the entropy of a Gaussian. Both stand in the triangular factor of
the covariance of a row: the block of a unit is the factor of its covariance given the past.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007, section 4.2.
https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float


def best_by_unit(
    covariance: Float[np.ndarray, "T T"], width: int
) -> tuple[Float[np.ndarray, " L"], Float[np.ndarray, " L"]]:
    """Mean CRPS and nats per value of the true law, for each unit of `width` values of a row."""
    factor = np.linalg.cholesky(covariance)
    crps, nats = [], []
    for first in range(0, len(covariance), width):
        block = factor[first : first + width, first : first + width]
        spread = np.sqrt(np.square(block).sum(1))  # given the units before, not the values of its own
        crps.append(spread.mean() / math.sqrt(math.pi))
        nats.append(0.5 * math.log(2 * math.pi * math.e) + np.log(np.diag(block)).mean())
    return np.array(crps), np.array(nats)
