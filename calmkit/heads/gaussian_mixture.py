"""Mixtures of diagonal Gaussians: their density, and guidance among them in closed form.

Guidance wants the density p^w u^(1 - w) of a condition's p and a null condition's u, which for mixtures has
no closed form: no power of a sum is a sum of Gaussians. Here p keeps its components and is tilted by what the
condition moved in mean and width,

    q  =  p (G_p / G_u)^(w - 1)  up to a factor,

where G is the Gaussian of the same mean and variances. Every component times the tilt is a Gaussian again,
weighted by its mass under the tilt. It is p^w u^(1 - w) itself for single Gaussians; for any mixtures it is
p at w = 1, and p where p = u, whatever w; and it asks for no agreement about which component is which. It
does not narrow the components, as the exact density does where those of p are far apart and u is wide.

Two other ways were left: powers of the components, (pi_k N_k)^w G_u^(1 - w), are exact for single Gaussians
too, but change p where p = u, and on random mixtures at w = 1.4 they lie twice as far from p^w u^(1 - w)
(`tests/heads/test_guidance.py`); GIVT's code draws a component of p and guides it by the component of u that
has the same number, which is another one.

Source: Tschannen et al., GIVT: Generative Infinite-Vocabulary Transformers, 2023 (density-based guidance, by
rejection there), and its code, proj/givt of big_vision. https://arxiv.org/abs/2312.02116
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Mixture(NamedTuple):
    """The numbers of a mixture of M diagonal Gaussians per unit; `log_weights` are normalised."""

    log_weights: Float[Tensor, "*units M"]
    loc: Float[Tensor, "*units M D"]
    scale: Float[Tensor, "*units M D"]


def mixture_log_prob(z: Float[Tensor, "*units D"], mixture: Mixture) -> Float[Tensor, "*units"]:
    """Exact log density of a diagonal Gaussian mixture, nats; finite far from every component.

    Source: Tschannen et al., 2023. https://arxiv.org/abs/2312.02116
    """
    standard = (z.to(mixture.loc.dtype).unsqueeze(-2) - mixture.loc) / mixture.scale  # [*units, M, D]
    log_density = -0.5 * standard.square() - mixture.scale.log() - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(mixture.log_weights + log_density.sum(-1), dim=-1)


def moments(mixture: Mixture) -> tuple[Float[Tensor, "*units D"], Float[Tensor, "*units D"]]:
    """Mean and variance of each dimension."""
    weights = mixture.log_weights.exp().unsqueeze(-1)
    mean = (weights * mixture.loc).sum(-2)
    apart = (mixture.loc - mean.unsqueeze(-2)).square()
    return mean, (weights * (mixture.scale.square() + apart)).sum(-2)


def guided_mixture(
    mixtures: Sequence[Mixture], weights: Sequence[float], widest: float | None = None
) -> Mixture:
    """The first mixture, tilted by the Gaussians of all: p_0 G_0^(w_0 - 1) prod_j G_j^w_j, normalised.

    With e = (w_0 - 1, w_1, ...), which sums to 0, and m_j, v_j the moments of mixture j, a component of p_0,
    N(m, s^2), becomes N(m + s^2 (b - a m) / c, s^2 / c) in each dimension, where a = sum_j e_j / v_j,
    b = sum_j e_j m_j / v_j and c = 1 + a s^2.

    Args:
        mixtures: Of the same units, the condition's first.
        weights: w_j, whose sum is 1.
        widest: Above 1: e of a unit is made smaller where a component would else become more than `widest`
            times as wide, so c is at least 1 / widest^2 and there is always a density.

    Raises:
        ValueError: Where c is not above 0 and nothing limits it: the product has no finite mass.
    """
    powers = [weights[0] - 1, *weights[1:]]
    means, variances = zip(*(moments(mixture) for mixture in mixtures), strict=True)
    a = torch.stack([power / v for power, v in zip(powers, variances, strict=True)]).sum(0).unsqueeze(-2)
    # with the first mean as the origin, its own term in b is gone and the others are small
    shifts = [
        power * (m - means[0]) / v for power, m, v in zip(powers[1:], means[1:], variances[1:], strict=True)
    ]
    b = torch.stack(shifts).sum(0).unsqueeze(-2)
    log_weights, loc, scale = mixtures[0]
    if widest is not None:
        share = _share(a * scale.square(), 1 / widest**2)
        a, b = share * a, share * b
    c = 1 + a * scale.square()
    _require_proper(c, weights[0])
    offset = loc - means[0].unsqueeze(-2)
    pull = b - a * offset
    moved = scale.square() * pull / c
    # the integral of N(x; m, s^2) exp(b x - a x^2 / 2), as its value at m times that of what is left
    mass = b * offset - 0.5 * a * offset.square() + 0.5 * moved * pull - 0.5 * c.log()
    return Mixture((log_weights + mass.sum(-1)).log_softmax(-1), loc + moved, scale / c.sqrt())


def _share(growth: Float[Tensor, "*units M D"], least: float) -> Float[Tensor, "*units 1 1"]:
    """Of each unit's guidance, that which leaves 1 + growth at `least` or above in all its dimensions."""
    lowest = growth.flatten(-2).min(-1).values[..., None, None]
    return torch.where(1 + lowest < least, (least - 1) / lowest, torch.ones_like(lowest))


def _require_proper(c: Float[Tensor, "*units M D"], weight: float) -> None:
    if bool((c > 0).all()):
        return
    proper = (c > 0).all(-1).all(-1)
    # c - 1 is proportional to weight - 1, so c reaches 0 where weight - 1 has grown by 1 / (1 - c)
    most = 1 + (weight - 1) / (1 - c.min()).item()
    side, digits = ("below", math.floor) if weight > 1 else ("above", math.ceil)
    raise ValueError(
        f"mixture: guidance by weight {weight:g} makes a density without finite mass for "
        f"{int((~proper).sum())} of {proper.numel()} units, where the null condition is narrower than the "
        f"condition; a weight {side} {digits(most * 1000) / 1000:g} would do for these units."
    )
