"""flow: a velocity field carries noise to the latent, step by step.

Training draws a time, a noise and a latent, and asks the network for the velocity of the straight line
between them; a draw follows the learned field from noise (t = 0) to data (t = 1). The loss has a floor
that no model can pass and that depends on the posterior's width, so losses are compared between equal
autoencoders only.

Source: Liu et al., Flow Straight and Fast, 2022, Eq. 1. https://arxiv.org/abs/2209.03003
Shao et al., Continuous Autoregressive Language Models, 2025, section 7.4 (as a head).
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.dynamics.paths import linear_path, linear_velocity, standard_noise
from calmkit.dynamics.solvers import Field, Solver, integrate, solver_calls
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Context,
    EventSpec,
    GenerativeHead,
    Guided,
    GuidedHead,
    HeadInfo,
    IterativeHead,
    Posterior,
    SampleOptions,
    StatesDrawFlops,
    TakesDraws,
)
from calmkit.nn.adaln import AdaLNMLP, draw_in_blocks
from calmkit.nn.settings import latent_dim_of, require_at_least


@final
class FlowHead(IterativeHead, GuidedHead, StatesDrawFlops, TakesDraws):
    """Rectified flow from noise to latent, an ODE solved per draw.

    Args:
        hidden_dim: H.
        event: A latent vector `(D,)`.
        depth: Blocks of the network.
        width: W, of the blocks; None: H.
        repeats: Posterior draws per unit and step of training, each with a time and a noise of its own.
        num_steps: Of a fixed-step solver; `dopri5` and `tsit5` choose their own.
        solver: `midpoint` calls the network twice per step, `euler` once.
        quantize_time: Tell the network the time in whole thousandths, as the released code does.

    The temperature multiplies the noise a draw starts from.
    """

    info: ClassVar[HeadInfo] = HeadInfo(
        sampling="iterative",
        temperature="noise",
        options=frozenset({"temperature", "num_steps", "solver", "generator"}),
        half_precision=True,
        guidance="output",
    )

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        depth: int = 3,  # MAR's default; CALM takes a quarter of the backbone's layers
        width: int | None = None,  # CALM: the hidden width
        repeats: int = 8,  # CALM, section 7.4: h repeated 8 times
        num_steps: int = 10,  # released code: 20 network calls by midpoint
        solver: Solver = "midpoint",  # released code
        quantize_time: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim_of("flow", event)
        width = hidden_dim if width is None else width
        require_at_least("flow", 1, depth=depth, width=width, repeats=repeats)
        solver_calls("flow", solver, num_steps)
        self.repeats, self.num_steps, self.solver = repeats, num_steps, solver
        self.net = AdaLNMLP(self.latent_dim, hidden_dim, width, depth, quantize_time=quantize_time)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """See `flow_loss`: squared latent units per dimension, not nats."""
        c = self.net.condition(context.h.reshape(-1, context.h.shape[-1]))
        z = target.sample(self.repeats).reshape(self.repeats, -1, self.latent_dim)  # [R, N, D]
        return flow_loss(lambda z_t, t: self.net(z_t, t, c), z).reshape(context.h.shape[:-1])

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Independent draws; with an adaptive solver they share step sizes."""
        options = self.info.accept(options)
        shape = (num, *context.h.shape[:-1], self.latent_dim)
        return self.from_noise(context, standard_noise(shape, context.h, options.generator), options)

    def from_noise(
        self, context: Context, noise: Float[Tensor, "num *units D"], options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """The draws that start from given noise, such as the noise of another code's draws.

        Args:
            context: As in `sample`.
            noise: Standard normal; `sample` draws it and comes here.
            options: As in `sample`: the temperature multiplies the noise.

        Raises:
            ValueError: For noise of other units or another D, and options that `network_calls` refuses.
        """
        options = self.info.accept(options)
        return self._from_noise(((context, 1.0),), noise, options)

    def sample_guided(
        self, guided: Guided, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Draws along the combined velocity sum_j w_j v(z_t, t, c_j), all terms in one network call.

        Where the law of condition j is N(m_j, s^2) with one s for all, it is N(sum_j w_j m_j, s^2).
        """
        options, h = self.info.accept(options), guided[0][0].h
        noise = standard_noise((num, *h.shape[:-1], self.latent_dim), h, options.generator)
        return self._from_noise(guided, noise, options)

    def _from_noise(self, guided: Guided, noise: Tensor, options: SampleOptions) -> Tensor:
        self.network_calls(options)  # refuses bad options before any work
        return draw_in_blocks(
            "flow", self.net, guided, noise, lambda field, start: self._draw(field, start, options)
        )

    def _draw(self, field: Field, noise: Tensor, options: SampleOptions) -> Tensor:
        return integrate(
            field,
            noise if options.temperature is None else options.temperature * noise,
            solver=self.solver if options.solver is None else options.solver,
            num_steps=self.num_steps if options.num_steps is None else options.num_steps,
        )

    def network_calls(self, options: SampleOptions | None = None) -> int | None:
        """`euler`: the steps; `midpoint`: twice the steps; adaptive solvers: None.

        Raises:
            ValueError: For a solver that is not offered, or steps for a solver that chooses its own.
        """
        options = self.info.accept(options)
        steps = self.num_steps if options.num_steps is None else options.num_steps
        solver = self.solver if options.solver is None else options.solver
        calls = solver_calls("flow", solver, steps)
        if calls is None and options.num_steps is not None:
            raise ValueError(
                f"flow: num_steps got {steps} beside solver '{solver}', which chooses its own; "
                "solver 'midpoint' would do."
            )
        return calls

    def forward_flops(self, units: int) -> int:
        """The condition once per unit, the network for each of its `repeats`."""
        return units * self.net.training_flops(self.repeats)

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int | None:
        """The condition once, the network for each call and draw; None where an adaptive solver decides."""
        calls = self.network_calls(options)
        return None if calls is None else self.net.drawing_flops(num, calls)


def flow_loss(field: Field, z: Float[Tensor, "R N D"]) -> Float[Tensor, " N"]:
    """Mean over R and D of (field(z_t, t) - (z - noise))^2, with a uniform t and a noise for each row.

    In float32 at least, also under autocast: the error is a small difference of large numbers.

    Returns:
        One value per unit. For a latent N(m, s^2 I) the best field is left with pi s / 2.

    Source:
        Liu et al., Flow Straight and Fast, 2022, Eq. 1. https://arxiv.org/abs/2209.03003
    """
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    noise = torch.randn_like(z)
    t = torch.rand(z.shape[:-1], dtype=z.dtype, device=z.device)
    error = field(linear_path(noise, z, t), t) - linear_velocity(noise, z)
    return error.square().mean(-1).mean(0)


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The door."""
    return {"flow": FlowHead}
