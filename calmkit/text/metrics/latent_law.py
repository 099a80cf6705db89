"""The law of the latents: what each dimension carries, and how far all of them are from N(0, I).

    KL_d       mean over units of KL(q_d(z | unit) || N(0, 1))          what dimension d may say, nats
    q(z)       mean over units of q(z | unit)                           what a head has to produce
    KL(N(m, S) || N(0, I)) <= KL(q(z) || N(0, I)) <= sum_d KL_d         m, S: mean and covariance of q(z)

The left inequality is an equality where q(z) is a Gaussian; the right one loses the information that z
carries about its unit (Hoffman and Johnson). Both hold for any posteriors, exactly so for the units at hand.

Source: Burda et al., Importance Weighted Autoencoders, 2015 (active dimensions).
https://arxiv.org/abs/1509.00519
Hoffman and Johnson, ELBO surgery, 2016 (the aggregate posterior).
http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
Szekely and Rizzo, Energy statistics, 2013 (the energy distance). https://doi.org/10.1016/j.jspi.2013.03.018
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.interfaces import Posterior
from calmkit.text.metrics.latent_robustness import spread_per_dim

ACTIVE_VARIANCE = 0.01  # Burda et al., 2015, in units of the prior's variance
DEAD_KL = 0.01  # nats; where q_d(z) has variance 1, that is a mean whose variance is 0.02
DISTANCE_BLOCK = 512  # rows of a block of distances: 16 MiB against 4096 others


def kl_per_dim(posterior: Posterior) -> Float[Tensor, " D"]:
    """KL to N(0, 1) of each dimension, mean over the units `[N, D]`: nats per chunk, never negative.

    Raises:
        ValueError: For a point, whose divergence is infinite.
    """
    return posterior.kl().mean(0)


def active_dims(mean: Float[Tensor, "N D"]) -> int:
    """Dimensions whose posterior mean has a variance above 0.01 over the units.

    Source:
        Burda et al., Importance Weighted Autoencoders, 2015. https://arxiv.org/abs/1509.00519
    """
    return int((mean.var(0, correction=0) > ACTIVE_VARIANCE).sum())


def aggregate_moments(posterior: Posterior) -> tuple[Float[Tensor, " D"], Float[Tensor, "D D"]]:
    """Mean and covariance of q(z) = mean of the units' posteriors `[N, D]`, exactly.

    m = E mean,    S = Cov(mean) + diag(E std^2), both over the units, divided by N.
    """
    mean = posterior.mean
    covariance = mean.T.cov(correction=0).view(mean.shape[1], -1)
    if posterior.log_std is not None:
        covariance = covariance + (2 * posterior.log_std).exp().mean(0).diag()
    return mean.mean(0), covariance


def gaussian_kl(mean: Float[Tensor, " D"], covariance: Float[Tensor, "D D"]) -> float:
    """KL(N(m, S) || N(0, I)) = (|m|^2 + tr S - D - log det S) / 2, nats; infinite where S is singular."""
    widths = torch.linalg.eigvalsh(covariance)
    if widths[0] <= widths[-1] * len(widths) * torch.finfo(widths.dtype).eps:
        return float("inf")
    return 0.5 * (mean.square().sum() + (widths - 1 - widths.log()).sum()).item()


def gaussian_kl_floor(units: int, dims: int) -> float:
    """What `gaussian_kl` of N draws of N(0, I) itself comes to, on average: D (D + 3) / (4 N), nats.

    2 N KL tends to a chi-squared law with D (D + 3) / 2 degrees of freedom, so N should be far above D^2 / 4.

    Source:
        Wilks, The large-sample distribution of the likelihood ratio for testing composite hypotheses, 1938.
    """
    return dims * (dims + 3) / (4 * units)


def energy_distance(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|, unbiased: 0 on average for equal laws, so it may be negative.

    In latent units. Averages are over pairs of distinct rows. For N draws each of N(0, I) it strays by about
    2 / N, in any dimension.

    Source:
        Szekely and Rizzo, Energy statistics, 2013, there with V-statistics, which are biased upwards.
    """
    within = (_distances(one, one) / (len(one) * (len(one) - 1)) for one in (x, y))
    return 2 * _distances(x, y) / (len(x) * len(y)) - sum(within)


def _distances(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]) -> float:
    """Sum over all pairs; a row's distance to itself is 0 up to rounding."""
    return sum(torch.cdist(block, y).sum().item() for block in x.split(DISTANCE_BLOCK))


def latent_law(posterior: Posterior, generator: torch.Generator) -> dict[str, Any]:
    """Everything above for one posterior `[N, D]`; KL and widths are left out where it is a point."""
    units, dims = posterior.mean.shape
    active = active_dims(posterior.mean)
    found: dict[str, Any] = {"active_dims": active, "collapsed_dims": dims - active}
    found["mean_std_per_dim"] = spread_per_dim(posterior.mean).tolist()
    if posterior.log_std is not None:
        kl, std = kl_per_dim(posterior), posterior.log_std.exp().mean(0)
        found |= {"kl": kl.sum().item(), "kl_per_dim": kl.tolist()}
        found |= {"kl_dead_dims": int((kl < DEAD_KL).sum())}
        found |= {"posterior_std": std.mean().item(), "posterior_std_per_dim": std.tolist()}
    mean, covariance = aggregate_moments(posterior)
    found["aggregate_mean_norm"] = mean.norm().item()
    found["aggregate_variance_per_dim"] = covariance.diagonal().tolist()
    found["aggregate_gaussian_kl"] = gaussian_kl(mean, covariance)
    found["aggregate_gaussian_kl_floor"] = gaussian_kl_floor(units, dims)
    if units > 1:
        z = posterior.sample(generator=generator)[0]
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
        found["aggregate_energy_distance"] = energy_distance(z, noise)
    return found
