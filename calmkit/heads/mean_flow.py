"""mean_flow: the average velocity from noise to data, so that a draw is one network call.

`flow` learns the velocity v of the straight line between a noise and a latent, and solves an ODE per draw.
This head learns the velocity averaged along the way from time t to a later time r,

    u(z_t, t, r) = 1 / (r - t) * integral of v(z_s, s) ds from t to r,  so  z_r = z_t + (r - t) u(z_t, t, r),

and a draw is z = noise + u(noise, 0, 1). No integral is taken in training: multiplied by r - t and
differentiated along the way, the definition says u = v + (r - t) du/dt, with u differentiated in the
direction (v, 1) of (z_t, t) and r held fixed (`calmkit.nn.along`). At r = t that is the loss of `flow`. In
the papers t = 1 is noise and a jump goes from t down to r < t: their -(t - r) is our r - t.

Source: Geng et al., Mean Flows for One-step Generative Modeling, 2025, Eq. 6 (the identity).
https://arxiv.org/abs/2505.13447
Geng et al., Improved Mean Flows, 2025 (the network's own velocity as the direction).
https://arxiv.org/abs/2512.02012
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.dynamics.paths import linear_path, linear_velocity, standard_noise
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Context,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    Posterior,
    SampleOptions,
    StatesDrawFlops,
    StatesTrainingFlops,
    TakesDraws,
)
from calmkit.nn.adaln import AdaLNMLP, draw_blocks
from calmkit.nn.along import ALONG_PASSES, along
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import latent_dim_of, require_at_least
from calmkit.nn.time_embedding import TimeEmbedding

Direction = Literal["network", "sample"]
Average = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z_t `[R, N, D]`, t `[R, N]`, r `[R, N]`) -> the average velocity from t to r, `[R, N, D]`."""

TIME_SCALE = 1.0  # of both embeddings: in thousandths the derivative by time drowns what it is added to


@final
class MeanFlowHead(GenerativeHead, StatesDrawFlops, StatesTrainingFlops, TakesDraws):
    """Average velocity from noise to latent, one network call per draw.

    Temperature multiplies the noise a draw starts from. Guidance mixes the conditions h.

    Args:
        hidden_dim: H.
        event: A latent vector `(D,)`.
        depth: Blocks of the network.
        width: W, of the blocks; None: H.
        repeats: Posterior draws per unit and step of training, each with times and a noise of its own.
        jumps: How many of the repeats have r > t; the others have r = t, which is the loss of `flow`. The
            first paper has 1 in 4, the second 1 in 2.
        direction: What u is differentiated along: the velocity of the `sample`, z - noise, as in the first
            paper, or the `network`'s own u(z_t, t, t), as in the second, which varies less and costs another
            forward pass of each jump.
        weight_power: p of the adaptive weight 1 / (error + c)^p of every row, error summed over D. At 0 the
            loss is the mean squared error, and the average velocity its best network; above 0 rows of large
            errors count less, and it need not be. The paper takes 1; in latent worlds of 2 and 32
            dimensions 0 was ahead of it.
        weight_offset: c. The larger it is, the more alike the weights.
        time_mean: Of the logit-normal law of the two times, whose earlier is t.
        time_std: Of that law.

    Raises:
        ValueError: For a setting out of its range, or an event that is no latent vector.
    """

    info: ClassVar[HeadInfo] = HeadInfo(
        sampling="one_step",
        temperature="noise",
        options=frozenset({"temperature", "generator"}),
        half_precision=True,
        guidance="condition",
    )

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        depth: int = 3,  # as flow
        width: int | None = None,
        repeats: int = 8,  # as flow
        jumps: int = 4,  # improved mean flows, code: data_proportion 0.5
        direction: Direction = "sample",
        weight_power: float = 0.0,
        weight_offset: float = 1e-3,  # the paper's c
        time_mean: float = 0.4,  # -0.4 where t = 1 is noise
        time_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim_of("mean_flow", event)
        width = hidden_dim if width is None else width
        require_at_least("mean_flow", 1, depth=depth, width=width, repeats=repeats, jumps=jumps)
        if jumps > repeats:
            raise ValueError(f"mean_flow: jumps must be at most repeats, {repeats}, got {jumps}; 1 would do.")
        if not 0 <= weight_power <= 1:
            raise ValueError(f"mean_flow: weight_power must lie in [0, 1], got {weight_power}; 0 would do.")
        for name, value in (("weight_offset", weight_offset), ("time_std", time_std)):
            if not 0 < value < math.inf:
                wanted = "must be above 0 and finite"
                raise ValueError(f"mean_flow: {name} {wanted}, got {value}; 1.0 would do.")
        self.repeats, self.jumps, self.direction = repeats, jumps, direction
        self.weight_power, self.weight_offset = weight_power, weight_offset
        self.time_mean, self.time_std = time_mean, time_std
        self.net = AdaLNMLP(self.latent_dim, hidden_dim, width, depth, time_scale=TIME_SCALE)
        self.span_embed = TimeEmbedding(width, scale=TIME_SCALE)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """`weighted` of `mean_flow_errors`, per dimension: at power 0 squared latent units; no nats."""
        h = context.h.reshape(-1, context.h.shape[-1])
        c = self.net.condition(h)
        z = target.sample(self.repeats).reshape(self.repeats, -1, self.latent_dim)  # [R, N, D]
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        t, r = two_times(z, self.jumps, self.time_mean, self.time_std)

        def average(z_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
            rows = (c + self.span_embed(r - t)).flatten(0, 1)  # [R * N, W]
            return self.net(z_t.reshape(1, -1, self.latent_dim), t.reshape(1, -1), rows).reshape(z_t.shape)

        errors = mean_flow_errors(average, z, t, r, self.jumps, self.direction)
        per_row = weighted(errors, self.weight_power, self.weight_offset) / self.latent_dim
        return per_row.mean(0).reshape(context.h.shape[:-1])

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Independent draws, noise + u(noise, 0, 1): one network call each."""
        options = self.info.accept(options)
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        noise = standard_noise((num, len(h), self.latent_dim), h, options.generator)
        noise = noise if options.temperature is None else options.temperature * noise
        begin = torch.zeros(1, 1, dtype=noise.dtype, device=h.device)
        c = self.net.condition(h) + self.span_embed(begin + 1)[0]
        starts = noise.split(draw_blocks(num, len(h)))
        draws = torch.cat([start + self.net(start, begin, c) for start in starts])
        return draws.reshape(num, *context.h.shape[:-1], self.latent_dim).to(h.dtype)

    def forward_flops(self, units: int) -> int:
        """The condition once per unit; the network once per repeat, its derivative per jump, and the network
        again where it gives the direction.
        """
        per_jump = ALONG_PASSES + (self.direction == "network")
        passes = self.repeats - self.jumps + self.jumps * per_jump
        return units * (self.net.condition_flops() + passes * self._row_flops())

    def training_flops(self, units: int) -> int:
        """Gradients go through the value of u alone: two passes for each repeat, whatever its times."""
        backward = 2 * (self.net.condition_flops() + self.repeats * self._row_flops())
        return self.forward_flops(units) + units * backward

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """The condition and the times once, the rest for each draw."""
        del options
        return self.net.drawing_flops(num, calls=1) + linear_flops(self.span_embed)

    def _row_flops(self) -> int:
        """Of the network for one row with times of its own."""
        return self.net.flops(1, times=1) + linear_flops(self.span_embed)


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


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The door."""
    return {"mean_flow": MeanFlowHead}
