"""consistency: a point of a path from noise to data is sent to the path's end, so a draw is one network call.

The path is a quarter of a circle, z_t = cos(a) z + sin(a) noise, with the angle a = pi/2 (1 - t): pi/2 is
noise, 0 is data. With a network F the head is f(z_t, a) = cos(a) z_t - sin(a) F(z_t, a). So f(z, 0) = z
whatever the weights, and a draw is f(noise, pi/2). Along a path f must not change. Training moves F against
the change that there is, without a teacher and without steps of time:

    g = cos(a) df/da = cos(a)^2 (dz_t/da - F) - cos(a) sin(a) (z_t + dF/da)

with dz_t/da = cos(a) noise - sin(a) z of the sample, and dF/da in that direction (`calmkit.nn.along`). The
step is g / (|g| + c). Not followed: the published warm-up of the second term, and a learned weight of every
a.

Source: Lu and Song, Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models, 2024, section 4
and Algorithm 1 (consistency training, sigma_d = 1). https://arxiv.org/abs/2410.11081
Rouard et al., Continuous Audio Language Models, 2025 (as a head on a backbone).
https://arxiv.org/abs/2509.06926
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.dynamics.paths import diffusion_path, standard_noise
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
from calmkit.nn.adaln import AdaLNMLP, draw_in_blocks
from calmkit.nn.along import ALONG_PASSES, along
from calmkit.nn.settings import latent_dim_of, require_at_least

Network = Callable[[Tensor, Tensor], Tensor]
"""(z_t `[R, N, D]`, angle `[R, N]`) -> F, `[R, N, D]`."""

NOISE_ANGLE = math.pi / 2


@final
class ConsistencyHead(GenerativeHead, StatesDrawFlops, StatesTrainingFlops, TakesDraws):
    """Consistency model from noise to latent, trained alone; one network call per draw.

    Latents are best of variance near 1, as the noise is: the transform `normalise` sees to it. Temperature
    multiplies the noise a draw starts from. Guidance mixes the conditions h.

    Args:
        hidden_dim: H.
        event: A latent vector `(D,)`.
        depth: Blocks of the network.
        width: W, of the blocks; None: H.
        repeats: Posterior draws per unit and step of training, each with an angle and a noise of its own.
        tangent_offset: c, in g / (|g| + c): far below |g| every row counts alike, which favours the
            likelier of several ends; far above |g| nothing is shortened. The paper has 0.1; in latent
            worlds of 2 and 32 dimensions 1 was ahead of it and of no shortening.
        time_mean: Of the normal law of log tan(a).
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
        repeats: int = 8,  # as flow; the audio paper repeats h too (head batch multiplier)
        tangent_offset: float = 1.0,  # Algorithm 1: 0.1
        time_mean: float = -1.0,  # of CIFAR-10; with its sigma_d of 0.5, log tan(a) is about -0.3 there
        time_std: float = 1.4,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim_of("consistency", event)
        width = hidden_dim if width is None else width
        require_at_least("consistency", 1, depth=depth, width=width, repeats=repeats)
        for name, value in (("tangent_offset", tangent_offset), ("time_std", time_std)):
            if not 0 < value < math.inf:
                raise ValueError(
                    f"consistency: {name} must be above 0 and finite, got {value}; 1.0 would do."
                )
        self.repeats, self.tangent_offset = repeats, tangent_offset
        self.time_mean, self.time_std = time_mean, time_std
        self.net = AdaLNMLP(self.latent_dim, hidden_dim, width, depth, time_scale=1.0)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """See `shortened`: a function of how f changes along a path, 0 where it does not; latent units."""
        c = self.net.condition(context.h.reshape(-1, context.h.shape[-1]))
        z = target.sample(self.repeats).reshape(self.repeats, -1, self.latent_dim)  # [R, N, D]
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        angle = (self.time_mean + self.time_std * torch.randn_like(z[..., 0])).exp().atan()
        noise = torch.randn_like(z)
        given, target_of = network_and_target(lambda z_t, a: self.net(z_t, a, c), z, noise, angle)
        errors = (given - target_of).norm(dim=-1)
        return shortened(errors, self.tangent_offset).mean(0).reshape(context.h.shape[:-1])

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Independent draws, f(noise, pi/2): one network call each."""
        options = self.info.accept(options)
        noise = standard_noise((num, *context.h.shape[:-1], self.latent_dim), context.h, options.generator)
        noise = noise if options.temperature is None else options.temperature * noise

        def draw(network: Network, start: Tensor) -> Tensor:
            return end_of_path(network, start, torch.full_like(start[:1, :1, 0], NOISE_ANGLE))

        return draw_in_blocks("consistency", self.net, ((context, 1.0),), noise, draw)

    def forward_flops(self, units: int) -> int:
        """The condition once per unit, the network and its derivative for each of its `repeats`."""
        rows = ALONG_PASSES * self.net.flops(self.repeats, times=self.repeats)
        return units * (self.net.condition_flops() + rows)

    def training_flops(self, units: int) -> int:
        """Gradients go through the value of F alone, not through its derivative."""
        return self.forward_flops(units) + units * 2 * self.net.training_flops(self.repeats)

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """The condition once, the network for each draw."""
        del options
        return self.net.drawing_flops(num, calls=1)


def end_of_path(
    network: Network, z_t: Float[Tensor, "S N D"], angle: Float[Tensor, "#S #N"]
) -> Float[Tensor, "S N D"]:
    """f(z_t, a) = cos(a) z_t - sin(a) F(z_t, a): z_t itself at angle 0, whatever the network."""
    return angle.cos()[..., None] * z_t - angle.sin()[..., None] * network(z_t, angle)


def network_and_target(
    network: Network, z: Float[Tensor, "R N D"], noise: Float[Tensor, "R N D"], angle: Float[Tensor, "R N"]
) -> tuple[Float[Tensor, "R N D"], Float[Tensor, "R N D"]]:
    """(F, F + g without its gradient), with g = cos(a) df/da along the path of this latent and this noise.

    The average of g over the paths through a point is 0 where f is the same all along the true flow. The
    derivative is taken in the direction cos(a) sin(a), which is bounded, as the paper does.

    Args:
        network: F.
        z: Data.
        noise: Standard normal.
        angle: a, from 0, data, to pi/2, noise.
    """
    cos, sin = angle.cos(), angle.sin()
    z_t, velocity = diffusion_path(noise, z, cos, sin), diffusion_path(noise, z, -sin, cos)
    both = cos * sin
    given, slope = along(network, (z_t, angle), (both[..., None] * velocity, both))
    here = given.detach()
    change = cos.square()[..., None] * (velocity - here) - both[..., None] * z_t - slope.detach()
    return given, here + change


def shortened(length: Float[Tensor, "R N"], offset: float) -> Float[Tensor, "R N"]:
    """2 (|g| - c log(1 + |g| / c)), whose gradient in F is that of the paper's |F - (F + g / (|g| + c))|^2.

    The paper's expression, its target held constant, is near 1 whatever the change; this one falls with it.
    """
    return 2 * (length - offset * torch.log1p(length / offset))


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The door."""
    return {"consistency": ConsistencyHead}
