"""Draw likelihood: how likely a value is under Gaussians of one scale around a head's draws.

A score by distances alone says little of which of many far clusters a draw should go to; a likelihood pulls
the nearest draw to the value at once. The draws carry the gradient, and so does the scale.

Source: Parzen, On Estimation of a Probability Density Function and Mode, 1962.
https://doi.org/10.1214/aoms/1177704472
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.heads.energy_score import at_least_float32


def draw_log_prob(
    draws: Float[Tensor, "S N D"], z: Float[Tensor, "N D"], log_scale: Float[Tensor, " 1"]
) -> Float[Tensor, " N"]:
    """log (1/S) sum_s N(z; x_s, scale^2 I), in float32 at least.

    It is a lower bound, in expectation over the draws, of the log density of what the draws come from,
    blurred by the scale: a biased estimate, which no head should be judged by.

    Args:
        draws: x_s, from the model.
        z: A value of each unit.
        log_scale: Natural logarithm of the scale, in latent units.

    Returns:
        Nats per unit.
    """
    wide = at_least_float32(draws.dtype)
    scale = log_scale.to(wide)
    squared = torch.stack([((x - z) * (-scale).exp()).square().sum(-1) for x in draws.to(wide)])  # [S, N]
    constant = draws.shape[-1] * (scale + math.log(2 * math.pi) / 2) + math.log(len(draws))
    return torch.logsumexp(-squared / 2, 0) - constant
