"""Marginal score: the CRPS of each dimension by itself, averaged over the dimensions.

In one dimension and at exponent 1 the energy score is the continuous ranked probability score. It is blind to
how dimensions depend on each other, so this one is proper but not strictly: added to a strictly proper score
it leaves that strict. The expected distance to a Gaussian is taken in closed form, not by draws.

Source: Alet et al., Skillful joint probabilistic weather forecasting from marginals (FGN), 2025.
https://arxiv.org/abs/2506.10772
Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007, sections 4.2 and 4.3.
https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.heads.energy_score import at_least_float32, blocked_score


def marginal_loss(
    draws: Float[Tensor, "S N D"],
    mean: Float[Tensor, "N D"],
    log_std: Float[Tensor, "N D"] | None = None,
    repulsion: float = 1.0,
) -> Float[Tensor, " N"]:
    """Mean over d of 2 E|x_d - y_d| - r E|x_d - x'_d|, over all pairs of distinct draws: twice the CRPS.

    With u = (x - m) / s and y ~ N(m, s^2), E|x - y| = (x - m) erf(u / sqrt(2)) + 2 s phi(u).
    A distance of 0 has gradient 0. Computed in float32 at least; differentiable once, in the draws alone.

    Args:
        draws: From the model; S must be at least 2.
        mean: Of the posterior of the same units; a constant.
        log_std: Of the same, natural logarithm; a constant. None: a point.
        repulsion: r, in [0, 1]. Only 1 is a proper score.

    Returns:
        One value per unit, in latent units. Never negative.

    Raises:
        ValueError: For fewer than 2 draws.
    """
    wide = at_least_float32(draws.dtype)
    mean, sigma = mean.detach().to(wide), None if log_std is None else log_std.detach().to(wide).exp()

    def cross(x: Tensor, units: slice) -> tuple[Tensor, Tensor]:
        return _to_marginals(x, mean[units], None if sigma is None else sigma[units])

    return blocked_score(draws.to(wide), cross, _among, repulsion, per_unit=1)


def _to_marginals(
    x: Float[Tensor, "S n D"], mean: Float[Tensor, "n D"], sigma: Float[Tensor, "n D"] | None
) -> tuple[Float[Tensor, " n"], Float[Tensor, "S n D"]]:
    """Mean of |x - y| over draws, targets and dimensions, and its gradient."""
    centred, count = x - mean, len(x) * x.shape[-1]
    if sigma is None:
        return centred.abs().sum((0, 2)) / count, centred.sign_().div_(count)
    u = centred / sigma.clamp(min=torch.finfo(x.dtype).tiny)
    sign = (u / math.sqrt(2)).erf_()  # P(y < x) - P(y > x), the slope of E|x - y|
    density = u.square_().div_(-2).exp_().mul_(sigma / math.sqrt(2 * math.pi))
    distance = centred.mul_(sign).add_(density, alpha=2)
    return distance.sum((0, 2)) / count, sign.div_(count)


def _among(x: Float[Tensor, "S n D"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "S n D"]]:
    """Mean of |x - x'| over pairs i < j of draws and dimensions, and its gradient."""
    total, gradient = x.new_zeros(x.shape[1]), torch.zeros_like(x)
    for i in range(len(x) - 1):
        difference = x[i + 1 :] - x[i]  # [S - 1 - i, n, D]
        total += difference.abs().sum((0, 2))
        difference.sign_()
        gradient[i + 1 :] += difference
        gradient[i] -= difference.sum(0)
    count = len(x) * (len(x) - 1) // 2 * x.shape[-1]
    return total / count, gradient.div_(count)
