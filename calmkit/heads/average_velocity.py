"""The average velocity of a flow by its identity u = v + (r - t) du/dt: times, errors, and their weight.

Source: Geng et al., Mean Flows for One-step Generative Modeling, 2025, Eq. 6 (the identity).
https://arxiv.org/abs/2505.13447
Geng et al., Improved Mean Flows, 2025 (the network's own velocity as the direction).
https://arxiv.org/abs/2512.02012
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.dynamics.paths import linear_path, linear_velocity
from calmkit.nn.along import along

Direction = Literal["network", "sample"]
Average = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z_t `[R, N, D]`, t `[R, N]`, r `[R, N]`) -> the average velocity from t to r, `[R, N, D]`."""


def two_times(
    z: Float[Tensor, "R N D"], jumps: int, mean: float, std: float
) -> tuple[Float[Tensor, "R N"], Float[Tensor, "R N"]]:
    """t <= r for every row: the earlier and the later of two logit-normal times; r = t behind the jumps."""
    first, second = (mean + std * torch.randn_like(z[..., 0]) for _ in range(2))
    t, r = torch.minimum(first, second).sigmoid(), torch.maximum(first, second).sigmoid()
    return t, torch.cat([r[:jumps], t[jumps:]])


def mean_flow_errors(
    average: Average,
    z: Float[Tensor, "R N D"],
    t: Float[Tensor, "R N"],
    r: Float[Tensor, "R N"],
    jumps: int,
    direction: Direction = "sample",
) -> Float[Tensor, "R N"]:
    """|u(z_t, t, r) - (v + (r - t) du/dt)|^2, a sum over D, with a noise for each row.

    The second term is a constant: it gets no gradient. In float32 at least, also under autocast.

    Args:
        average: u.
        z: Draws of the posterior, R per unit.
        t: Where a jump begins.
        r: Where it ends; from row `jumps` on it is t, and no derivative is taken.
        jumps: Rows that jump.
        direction: See `MeanFlowHead`.
    """
    noise = torch.randn_like(z)
    z_t, velocity = linear_path(noise, z, t), linear_velocity(noise, z)
    still = average(z_t[jumps:], t[jumps:], r[jumps:]) - velocity[jumps:]
    if not jumps:
        return still.square().sum(-1)
    given, target = average_and_target(
        average, z_t[:jumps], t[:jumps], r[:jumps], velocity[:jumps], direction
    )
    return torch.cat([given - target, still]).square().sum(-1)


def average_and_target(
    average: Average, z_t: Tensor, t: Tensor, r: Tensor, velocity: Tensor, direction: Direction = "sample"
) -> tuple[Tensor, Tensor]:
    """(u(z_t, t, r), v + (r - t) du/dt), the second without gradient; at r = t it is v, bit for bit.

    Where u is the average velocity they are equal, on average over the samples that pass through z_t.

    Args:
        average: u.
        z_t: `[R, N, D]`, on the path.
        t: `[R, N]`.
        r: `[R, N]`, not before t.
        velocity: v, z - noise of a sample; for the field itself the two are equal without an average.
        direction: See `MeanFlowHead`.
    """
    if direction == "sample":
        heading = velocity
    else:
        with torch.no_grad():
            heading = average(z_t, t, t).to(z_t.dtype)
    given, slope = along(lambda z, now: average(z, now, r), (z_t, t), (heading, torch.ones_like(t)))
    return given, velocity + (r - t)[..., None] * slope.detach()


def weighted(errors: Float[Tensor, "R N"], power: float, offset: float) -> Float[Tensor, "R N"]:
    """A function of the error whose slope is the adaptive weight 1 / (error + offset)^power.

    The paper multiplies the error by that weight and holds it constant. This has the same gradient, and at
    power 1 the value log(1 + error / offset), where the paper's is nearly 1 whatever the error.
    """
    if power == 0:
        return errors
    if power == 1:
        return torch.log1p(errors / offset)
    return ((errors + offset) ** (1 - power) - offset ** (1 - power)) / (1 - power)
