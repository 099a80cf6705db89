"""The energy score of draws in strata: every code once in each of two noise groups, weighted.

Draws of one group are not independent: each code is there exactly once. Their distances among each other
leave out two draws of one code, so no weighted mean over them is E|x - x'|^a of two independent draws.
Between two groups of independent noise every pair of codes is there: weighted by w_c w_c', the sum of the
distances is an unbiased estimate of it, and the only repulsion in the loss.

As in `calmkit.heads.energy_score`, the gradient is made beside the value in blocks of units, here that of the
weights too, so nothing but the gradients themselves waits for the backward pass.

Source: the score, Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007,
section 4.3, https://doi.org/10.1198/016214506000001437; as a loss of draws, Shao et al., Continuous
Autoregressive Language Models, 2025, Eq. 9-10, https://arxiv.org/abs/2510.27688. The strata are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from calmkit.heads.energy_score import BLOCK_ELEMENTS, Distance, at_least_float32, weigh_

ToTargets = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""From draws `[S, n, D]` of some units: the mean of |x - y|^a over targets, `[S, n]`, and its gradient."""


def two_group_loss(
    draws: Float[Tensor, "2 C N D"],
    weights: Float[Tensor, "N C"],
    targets: Float[Tensor, "R N D"],
    exponent: float = 1.0,
) -> Float[Tensor, " N"]:
    """Negated energy score of a code by its weight and a draw of that code, by explicit differences.

    loss = sum_c w_c sum_g mean_r |x_gc - y_r|^a - sum_cc' w_c w_c' |x_1c - x_2c'|^a

    for the groups g = 1, 2. Over the noise of both groups its mean is 2 E|x - y|^a - E|x - x'|^a of
    independent draws x, x' of the whole distribution, and so is that of its gradient. A distance of 0 has
    gradient 0. Computed in float32 at least; differentiable once, in draws and weights.

    Args:
        draws: x, of every code in both groups, with noise of its own for each.
        weights: w of the same units, which sum to 1.
        targets: y, from the posterior of the same units; constants.
        exponent: a, in (0, 2).

    Returns:
        One value per unit, in latent units to the power a, comparable with `energy_loss`. Never negative for
        a <= 1.
    """
    wide = at_least_float32(draws.dtype)
    targets = targets.detach().to(wide)

    def to_targets(x: Tensor, units: slice) -> tuple[Tensor, Tensor]:
        return _to_points(x, targets[:, units], exponent)

    return _score(draws.to(wide), weights.to(wide), to_targets, exponent, len(targets) * draws.shape[-1])


def gaussian_two_group_loss(
    draws: Float[Tensor, "2 C N D"],
    weights: Float[Tensor, "N C"],
    mean: Float[Tensor, "N D"],
    log_std: Float[Tensor, "N D"],
    noise: Float[Tensor, "R D"],
    exponent: float = 1.0,
) -> Float[Tensor, " N"]:
    """`two_group_loss` against targets mean + exp(log_std) * noise that are never made.

    Matrix products, as in `gaussian_energy_loss`: all units share the noise, so their errors are correlated,
    and `torch.set_float32_matmul_precision` is followed.

    Args:
        draws: As for `two_group_loss`.
        weights: As for `two_group_loss`.
        mean: Of the posterior of the same units; a constant.
        log_std: Of the same, natural logarithm; a constant.
        noise: Standard normal, one row per target.
        exponent: a, in (0, 2).

    Returns:
        One value per unit, in latent units to the power a.
    """
    wide = at_least_float32(draws.dtype)
    mean, noise, sigma = mean.detach().to(wide), noise.detach().to(wide), log_std.detach().to(wide).exp()

    def to_targets(x: Tensor, units: slice) -> tuple[Tensor, Tensor]:
        return _to_gaussians(x, mean[units], sigma[units], noise, exponent)

    return _score(draws.to(wide), weights.to(wide), to_targets, exponent, 2 * draws.shape[1] * len(noise))


def _score(draws: Tensor, weights: Tensor, to_targets: ToTargets, exponent: float, per_unit: int) -> Tensor:
    size = max(1, BLOCK_ELEMENTS // max(per_unit, 2 * draws.shape[1] * draws.shape[-1]))
    with torch.autocast(draws.device.type, enabled=False):
        return _Score.apply(draws, weights, to_targets, exponent, size)


class _Score(torch.autograd.Function):
    """Value and both gradients in blocks of units."""

    @staticmethod
    def forward(
        ctx: Any, draws: Tensor, weights: Tensor, to_targets: ToTargets, exponent: float, size: int
    ) -> Tensor:
        values = draws.new_empty(draws.shape[2])
        to_draws, to_weights = torch.empty_like(draws), torch.empty_like(weights)
        for start in range(0, draws.shape[2], size):
            units = slice(start, start + size)
            x, w = draws[:, :, units], weights[units].T  # [2, C, n, D], [C, n]
            pull, pull_slope = to_targets(x.flatten(0, 1), units)
            pull = pull.unflatten(0, (2, -1)).sum(0)  # [C, n]
            push, push_weights, push_slope = _between(x[0], x[1], w, exponent)
            values[units] = (w * pull).sum(0) - push
            to_weights[units] = (pull - push_weights).T
            to_draws[:, :, units] = w.unsqueeze(-1) * pull_slope.unflatten(0, (2, -1)) - push_slope
        ctx.save_for_backward(to_draws, to_weights)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        to_draws, to_weights = ctx.saved_tensors
        outer = outer.unsqueeze(-1)
        return to_draws * outer, to_weights * outer, None, None, None


def _between(
    first: Float[Tensor, "C n D"], second: Float[Tensor, "C n D"], w: Float[Tensor, "C n"], exponent: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, "C n"], Float[Tensor, "2 C n D"]]:
    """Sum of w_c w_c' |x_1c - x_2c'|^a, and its gradients by the weights and by the draws.

    By differences: draws may lie so close together that a difference of products would lose them.
    """
    from_first, from_second = torch.empty_like(w), torch.zeros_like(w)
    slope = torch.stack([first, second]).zero_()
    size = max(1, BLOCK_ELEMENTS // max(1, first.numel()))  # codes at a time
    for start in range(0, len(first), size):
        codes = slice(start, start + size)
        difference = first[codes].unsqueeze(1) - second  # [k, C, n, D]
        distance = difference.square().sum(-1)
        factor = weigh_(distance, Distance(exponent))
        here = w[codes].unsqueeze(1)
        from_first[codes] = (distance * w).sum(1)
        from_second += (distance * here).sum(0)
        difference.mul_((factor * here * w).unsqueeze(-1))
        slope[0, codes] = difference.sum(1)
        slope[1] -= difference.sum(0)
    return (w * from_first).sum(0), from_first + from_second, slope.mul_(exponent)


def _to_gaussians(
    x: Float[Tensor, "S n D"],
    mean: Float[Tensor, "n D"],
    sigma: Float[Tensor, "n D"],
    noise: Float[Tensor, "R D"],
    exponent: float,
) -> tuple[Float[Tensor, "S n"], Float[Tensor, "S n D"]]:
    """Mean over targets of |x - y|^a, of each draw, and its gradient; by matrix products."""
    offset = x - mean  # centred: the products below lose no digits to a mean far from 0
    squared = (offset * sigma) @ noise.T  # [S, n, R], the largest tensor
    squared.mul_(-2).add_(offset.square().sum(-1, keepdim=True)).add_(sigma.square() @ noise.square().T)
    factor = weigh_(squared.clamp_(min=0), Distance(exponent))
    slope = offset.mul_(factor.sum(-1, keepdim=True)).sub_((factor @ noise).mul_(sigma))
    return squared.mean(-1), slope.mul_(exponent / len(noise))


def _to_points(
    x: Float[Tensor, "S n D"], targets: Float[Tensor, "R n D"], exponent: float
) -> tuple[Float[Tensor, "S n"], Float[Tensor, "S n D"]]:
    """As `_to_gaussians`, for targets that are given, one draw at a time."""
    pull, slope = x.new_empty(x.shape[:2]), torch.empty_like(x)
    for i, draw in enumerate(x):
        difference = draw - targets  # [R, n, D]
        distance = difference.square().sum(-1)
        factor = weigh_(distance, Distance(exponent))
        pull[i] = distance.mean(0)
        slope[i] = difference.mul_(factor.unsqueeze(-1)).mean(0)
    return pull, slope.mul_(exponent)
