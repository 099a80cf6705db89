"""Energy score: a loss for draws, without a tensor over draws x targets x units x D.

All units share one set of target noises, so the distances to mean + sigma * noise are matrix products. The
gradient, again a matrix product of the same distances, is made beside the value in blocks of units, so
nothing but the gradient itself waits for the backward pass.

In place of the distance d may stand rho = sqrt(d^2 + c^2) - c, which is d^2 / 2c near 0 and d - c far away.
The score stays strictly proper: rho is a Bernstein function of d^2, namely

    rho = integral over t > 0 of (1 - exp(-t d^2)) exp(-c^2 t) / (2 sqrt(pi) t^1.5) dt,

so its energy distance is a positive mixture of the squared maximum mean discrepancies of all Gaussian
kernels, each of which is 0 for equal laws alone. With an exponent above 1 it would not be: near 0 rho^a goes
as d^2a. Exponents below 1 are left out.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Eq. 9-10.
https://arxiv.org/abs/2510.27688 Bernstein functions of d^2: Schoenberg, Metric Spaces and Positive Definite
Functions, 1938. https://doi.org/10.1090/S0002-9947-1938-1501980-0
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ELEMENTS = 2**21
"""Of the largest tensor in the loss, 8 MiB in float32: less saves memory, more saves launches on a GPU."""


def energy_loss(
    draws: Float[Tensor, "S N D"],
    targets: Float[Tensor, "R N D"],
    exponent: float = 1.0,
    repulsion: float = 1.0,
    offset: float = 0.0,
) -> Float[Tensor, " N"]:
    """Negated energy score of sets of draws against sets of targets, by explicit differences.

    loss = 2 mean |x - y|^a - r mean |x - x'|^a, over pairs of a draw and a target, and of two distinct draws.
    A distance of 0 has gradient 0. Computed in float32 at least; differentiable once, in the draws alone.

    Args:
        draws: From the model; S must be at least 2.
        targets: From the posterior of the same units; constants.
        exponent: a, in (0, 2).
        repulsion: r, in [0, 1]. Only 1 is a proper score. Below it the best draws are narrower than the
            targets: for targets N(m, p^2 I) and a = 1 the best of all N(m, s^2 I) has
            s = p r / sqrt(2 - r^2).
        offset: c, in latent units: sqrt(|d|^2 + c^2) - c stands for |d|. Only with a = 1.

    Returns:
        One value per unit, in latent units to the power a. Never negative for a <= 1 without an offset.

    Raises:
        ValueError: For fewer than 2 draws, or an offset that is negative or beside another exponent than 1.

    Source:
        Shao et al., 2025, Eq. 10. https://arxiv.org/abs/2510.27688 `repulsion`: the tau of Shao et al.,
        Continuous Visual Autoregressive Generation via Score Maximization (EAR), 2025.
        https://arxiv.org/abs/2505.07812
    """
    wide, rho = at_least_float32(draws.dtype), Distance.checked(exponent, offset)
    targets = targets.detach().to(wide)

    def cross(x: Tensor, units: slice) -> tuple[Tensor, Tensor]:
        return _to_targets(x, targets[:, units], rho)

    return blocked_score(
        draws.to(wide), cross, lambda x: _among(x, rho), repulsion, len(targets) * draws.shape[-1]
    )


def gaussian_energy_loss(
    draws: Float[Tensor, "S N D"],
    mean: Float[Tensor, "N D"],
    log_std: Float[Tensor, "N D"],
    noise: Float[Tensor, "R D"],
    exponent: float = 1.0,
    repulsion: float = 1.0,
    offset: float = 0.0,
) -> Float[Tensor, " N"]:
    """`energy_loss` against targets mean + exp(log_std) * noise that are never made.

    |x - y|^2 = |x - mean|^2 - 2 ((x - mean) * sigma) . noise + sigma^2 . noise^2: matrix products, since all
    units share the noise. With standard normal noise each unit's value stays an unbiased estimate; the units'
    errors are correlated. The products follow `torch.set_float32_matmul_precision`: TF32 keeps some 3 digits.

    Args:
        draws: From the model; S must be at least 2.
        mean: Of the posterior of the same units; a constant.
        log_std: Of the same, natural logarithm; a constant.
        noise: Standard normal, one row per target.
        exponent: a, in (0, 2).
        repulsion: As for `energy_loss`.
        offset: As for `energy_loss`.

    Returns:
        One value per unit, in latent units to the power a.

    Raises:
        ValueError: As `energy_loss`.

    Source:
        Shao et al., 2025, Eq. 10. https://arxiv.org/abs/2510.27688
    """
    wide, rho = at_least_float32(draws.dtype), Distance.checked(exponent, offset)
    mean, noise, sigma = mean.detach().to(wide), noise.detach().to(wide), log_std.detach().to(wide).exp()

    def cross(x: Tensor, units: slice) -> tuple[Tensor, Tensor]:
        return _to_gaussians(x, mean[units], sigma[units], noise, rho)

    return blocked_score(draws.to(wide), cross, lambda x: _among(x, rho), repulsion, len(draws) * len(noise))


class Distance(NamedTuple):
    """What a difference of two points counts: (sqrt(|d|^2 + c^2) - c)^a.

    Attributes:
        exponent: a.
        offset: c.
    """

    exponent: float
    offset: float = 0.0

    @classmethod
    def checked(cls, exponent: float, offset: float) -> Distance:
        """One whose score is proper for exponents in (0, 2).

        Raises:
            ValueError: For an offset that is none, or beside another exponent than 1.
        """
        if not 0 <= offset < math.inf:
            raise ValueError(f"energy: offset must be at least 0 and finite, got {offset}; 0 would do.")
        if offset > 0 and exponent != 1:
            raise ValueError(
                f"energy: offset {offset:g} is for exponent 1 alone, which stays proper with it; got "
                f"exponent {exponent:g}; offset 0 would do."
            )
        return cls(exponent, offset)


def blocked_score(
    draws: Float[Tensor, "S N D"],
    cross: Callable[[Tensor, slice], tuple[Tensor, Tensor]],
    among: Callable[[Tensor], tuple[Tensor, Tensor]],
    repulsion: float,
    per_unit: int,
) -> Float[Tensor, " N"]:
    """2 cross - r among, made in blocks of units, value and gradient at once.

    Args:
        draws: S must be at least 2.
        cross: (draws of some units `[S, n, D]`, which units) -> mean distance to the targets `[n]`, and its
            gradient `[S, n, D]`, which it gives away.
        among: The same of the distances among the draws.
        repulsion: r.
        per_unit: Elements of the largest tensor that `cross` makes, for one unit.

    Raises:
        ValueError: For fewer than 2 draws.
    """
    if len(draws) < 2:
        raise ValueError(f"energy: the loss needs at least 2 draws, got {len(draws)}; raise num_draws.")
    size = max(1, BLOCK_ELEMENTS // max(per_unit, len(draws) * draws.shape[-1]))
    with torch.autocast(draws.device.type, enabled=False):
        return _Score.apply(draws, cross, among, repulsion, size)


class _Score(torch.autograd.Function):
    """2 * cross - repulsion * self in blocks of units.

    The gradient is made beside the value, from the same distances.
    """

    @staticmethod
    def forward(
        ctx: Any,
        draws: Tensor,
        cross: Callable[[Tensor, slice], tuple[Tensor, Tensor]],
        among: Callable[[Tensor], tuple[Tensor, Tensor]],
        repulsion: float,
        size: int,
    ) -> Tensor:
        values, gradient = draws.new_empty(draws.shape[1]), torch.empty_like(draws)
        for start in range(0, draws.shape[1], size):
            units = slice(start, start + size)
            x = draws[:, units]
            pull, pull_gradient = cross(x, units)
            push, push_gradient = among(x)
            values[units] = 2 * pull - repulsion * push
            gradient[:, units] = pull_gradient.mul_(2).sub_(push_gradient, alpha=repulsion)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer.unsqueeze(-1), None, None, None, None


def _to_gaussians(
    x: Float[Tensor, "S n D"],
    mean: Float[Tensor, "n D"],
    sigma: Float[Tensor, "n D"],
    noise: Float[Tensor, "R D"],
    rho: Distance,
) -> tuple[Float[Tensor, " n"], Float[Tensor, "S n D"]]:
    """Mean of rho(x - y) over draws and targets, and its gradient."""
    centred = x - mean  # the products below lose no digits to a mean far from 0
    squared = (centred * sigma) @ noise.T  # [S, n, R], the largest tensor
    squared.mul_(-2).add_(centred.square().sum(-1, keepdim=True)).add_(sigma.square() @ noise.square().T)
    weight = weigh_(squared.clamp_(min=0), rho)
    gradient = centred.mul_(weight.sum(-1, keepdim=True)).sub_((weight @ noise).mul_(sigma))
    pairs = len(x) * len(noise)
    return squared.sum((0, 2)) / pairs, gradient.mul_(rho.exponent / pairs)


def _to_targets(
    x: Float[Tensor, "S n D"], targets: Float[Tensor, "R n D"], rho: Distance
) -> tuple[Float[Tensor, " n"], Float[Tensor, "S n D"]]:
    """As `_to_gaussians`, for targets that are given, one draw at a time."""
    total, gradient = x.new_zeros(x.shape[1]), torch.empty_like(x)
    for draw, slot in zip(x, gradient, strict=True):
        difference = draw - targets  # [R, n, D]
        squared = difference.square().sum(-1)
        weight = weigh_(squared, rho)
        total += squared.sum(0)
        slot.copy_(difference.mul_(weight.unsqueeze(-1)).sum(0))
    pairs = len(x) * len(targets)
    return total / pairs, gradient.mul_(rho.exponent / pairs)


def _among(x: Float[Tensor, "S n D"], rho: Distance) -> tuple[Float[Tensor, " n"], Float[Tensor, "S n D"]]:
    """Mean of rho(x - x') over pairs i < j of draws, and its gradient.

    By differences: draws may lie so close together that a difference of products would lose them.
    """
    total, gradient = x.new_zeros(x.shape[1]), torch.zeros_like(x)
    for i in range(len(x) - 1):
        difference = x[i + 1 :] - x[i]  # [S - 1 - i, n, D]
        squared = difference.square().sum(-1)
        weight = weigh_(squared, rho)
        total += squared.sum(0)
        difference.mul_(weight.unsqueeze(-1))
        gradient[i + 1 :] += difference
        gradient[i] -= difference.sum(0)
    pairs = len(x) * (len(x) - 1) // 2
    return total / pairs, gradient.mul_(rho.exponent / pairs)


def weigh_(squared: Tensor, rho: Distance) -> Tensor:
    """Squared distances become rho in place; returns the factor that the difference, times a, has in the
    gradient: |d|^(a - 2), with 0 for a distance of 0, or 1 / sqrt(|d|^2 + c^2).
    """
    tiny = torch.finfo(squared.dtype).tiny  # below it the power could overflow, so it counts as 0
    if rho.offset > 0:
        root = (squared + rho.offset**2).sqrt_().clamp_(min=max(rho.offset, tiny))
        squared.div_(root + rho.offset)  # sqrt(q + c^2) - c without a difference of near numbers
        return root.reciprocal_()
    weight = squared.clamp(min=tiny).pow_(rho.exponent / 2 - 1).masked_fill_(squared <= tiny, 0)
    squared.mul_(weight)
    return weight


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in where half precision would not hold: float32, or wider if the input is."""
    return torch.promote_types(dtype, torch.float32)
