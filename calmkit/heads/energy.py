"""Energy head: a draw is one network call on fresh noise, and the loss is the energy score.

The score (`calmkit.heads.energy_score`) needs draws only, no density: it pulls every draw towards draws of
the posterior and pushes the draws apart, and for an exponent in (0, 2) the true distribution alone is best.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 3.3.3 and Eq. 9-10.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.heads.energy_score import at_least_float32, energy_loss, gaussian_energy_loss
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    PASSES,
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
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import latent_dim_of, require_at_least
from calmkit.nn.swiglu import NORM_EPS


@final
class EnergyHead(GenerativeHead, StatesDrawFlops, StatesTrainingFlops, TakesDraws):
    """CALM's head: one-step draws from uniform noise, trained by the energy score.

    Temperature is a factor on the scale of the input noise: a heuristic, not a power of the density. Guidance
    mixes the conditions h, as EAR's code does.

    Args:
        hidden_dim: H.
        event: A latent vector.
        num_draws: S, draws per unit in the loss; at least 2.
        num_targets: R, draws of the posterior in the loss; a point posterior counts once.
        exponent: Power of the distance, in (0, 2) without the ends.
        repulsion: Factor on the distances among the draws, in [0, 1]. Only 1 is a proper score; below it the
            best draws are narrower than the posterior. EAR trains with 1 and ends with 0.99: a second run,
            whose `stages.autoencoder.init_from` and `stages.lm.init_from` both name the first.
        noise_dim: Width of the noise, uniform on [-0.5, 0.5).
        depth: Residual blocks.
        width: W, of the network; None: `hidden_dim`, as in the official network.
        init_std: Standard deviation of the last layer's weights in a fresh network. At 0, as in the official
            network, every first draw is 0; on digits 0.1 was ahead at equal steps (docs/log.md).

    Raises:
        ValueError: For a setting out of its range, or an event that is no latent vector.
    """

    info = HeadInfo(
        sampling="one_step",
        temperature="noise",
        options=frozenset({"temperature", "generator"}),
        half_precision=True,
        guidance="condition",  # EAR's code combines hidden states
    )

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        num_draws: int = 8,  # N in Eq. 10; Table 3
        num_targets: int = 100,  # M in Eq. 10; Table 3
        exponent: float = 1.0,  # alpha in Eq. 10; Table 4
        repulsion: float = 1.0,  # EAR (arXiv 2505.07812) ends with 50 epochs at tau = 0.99
        noise_dim: int = 64,  # noise_size of the official code
        depth: int = 4,  # a quarter of the backbone's 16 layers, section 3.3.3
        width: int | None = None,
        init_std: float = 0.0,
    ) -> None:
        super().__init__()
        latent_dim = latent_dim_of("energy", event)
        if not 0 < exponent < 2:
            raise ValueError(f"energy: exponent must lie in (0, 2), got {exponent}; 1.0 would do.")
        if not 0 <= repulsion <= 1:  # above 1 a few draws far out make the loss as low as one likes
            raise ValueError(f"energy: repulsion must lie in [0, 1], got {repulsion}; 1.0 would do.")
        if not 0 <= init_std < math.inf:
            raise ValueError(f"energy: init_std must be at least 0 and finite, got {init_std}; 0.1 would do.")
        require_at_least("energy", 2, num_draws=num_draws)  # the loss compares draws with each other
        require_at_least("energy", 1, num_targets=num_targets, noise_dim=noise_dim, depth=depth, width=width)
        self.num_draws, self.num_targets = num_draws, num_targets
        self.exponent, self.repulsion = exponent, repulsion
        self.network = NoiseMLP(noise_dim, hidden_dim, latent_dim, width or hidden_dim, depth)
        if init_std > 0:
            nn.init.normal_(self.network.out.weight, std=init_std)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Energy loss per unit, in latent units to the power `exponent`.

        Its floor is above 0 where the posterior has a spread. The target is a constant: it gets no gradient.
        """
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        draws = self._draw(h, self.num_draws, SampleOptions())
        if target.values is not None:  # known by draws, such as a teacher's
            values = target.values if target.weights is None else target.sample(self.num_targets)
            values = values.reshape(len(values), -1, draws.shape[-1])  # [R, N, D]
            per_unit = energy_loss(draws, values, self.exponent, self.repulsion)
            return per_unit.reshape(context.h.shape[:-1])
        mean = target.mean.reshape(-1, draws.shape[-1])  # [N, D]
        if target.log_std is None:
            per_unit = energy_loss(draws, mean.unsqueeze(0), self.exponent, self.repulsion)
        else:
            noise = torch.randn(
                self.num_targets, mean.shape[-1], device=h.device, dtype=at_least_float32(h.dtype)
            )
            per_unit = gaussian_energy_loss(
                draws, mean, target.log_std.reshape(mean.shape), noise, self.exponent, self.repulsion
            )
        return per_unit.reshape(context.h.shape[:-1])

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Independent draws, one network call each."""
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        draws = self._draw(h, num, self.info.accept(options))
        return draws.reshape(num, *context.h.shape[:-1], draws.shape[-1])

    def forward_flops(self, units: int) -> int:
        """The network for all draws, and the score against a posterior with a spread (a point has none)."""
        return units * (self.draw_flops(self.num_draws) + self._score_flops())

    def training_flops(self, units: int) -> int:
        """The score makes its gradient in the forward pass; that noise takes none is not taken off."""
        return units * (PASSES * self.draw_flops(self.num_draws) + self._score_flops())

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """The condition's share once, the rest for each draw."""
        del options
        shared = self.network.condition_flops()
        return shared + num * (linear_flops(self.network) - shared)

    def _score_flops(self) -> int:
        """Of `gaussian_energy_loss`: (S + 1) D R for the distances, S R D for their gradient."""
        return 2 * (2 * self.num_draws + 1) * self.num_targets * self.network.out.out_features

    def _draw(self, h: Float[Tensor, "N H"], num: int, options: SampleOptions) -> Float[Tensor, "num N D"]:
        # Uniform numbers drawn in bfloat16 take 256 values only: draw wide, then round.
        noise = torch.rand(
            (num, len(h), self.network.noise_dim),
            dtype=at_least_float32(h.dtype),
            device=h.device,
            generator=options.generator,
        )
        temperature = 1.0 if options.temperature is None else options.temperature
        return self.network(((noise - 0.5) * temperature).to(h.dtype), h)


@final
class NoiseMLP(nn.Module):
    """Noise and condition to a latent: the official `MLPGenerator`, parameter for parameter.

    The last layer starts at 0, so every draw of a fresh network is 0.
    """

    def __init__(self, noise_dim: int, hidden_dim: int, latent_dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.noise_dim = noise_dim
        self.noise_in = nn.Linear(noise_dim, width)
        self.noise_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.condition_in = nn.Linear(hidden_dim, width)
        self.condition_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(NoiseBlock(width) for _ in range(depth))
        self.out_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.out_hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, latent_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, noise: Float[Tensor, "S N noise"], h: Float[Tensor, "N H"]) -> Float[Tensor, "S N D"]:
        """One draw per noise; the condition is read once for all S."""
        x = self.noise_norm(self.noise_in(noise))
        condition = self.condition_norm(self.condition_in(h))
        for block in self.blocks:
            x = block(x, condition)
        return self.out(F.silu(self.out_hidden(self.out_norm(x))))

    def condition_flops(self) -> int:
        """What all draws of a unit share: reading h, and the condition's half of every `join`."""
        width = self.out_hidden.in_features
        return linear_flops(self.condition_in) + len(self.blocks) * 2 * width**2


@final
class NoiseBlock(nn.Module):
    """x + down(silu(gate) * up), where gate and up come from an MLP on (LayerNorm(x), condition).

    `join` is one Linear on the concatenation, as in the official checkpoints (its first W columns read x, the
    others the condition), but is applied in two parts, because the condition's is the same for all draws.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.join = nn.Linear(2 * width, width)
        self.middle = nn.Linear(width, width)
        self.gate_up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "S N W"], condition: Float[Tensor, "N W"]) -> Float[Tensor, "S N W"]:
        """One residual step of the noise stream."""
        from_x, from_condition = self.join.weight.chunk(2, dim=1)
        joined = F.linear(self.norm(x), from_x) + F.linear(condition, from_condition, self.join.bias)
        gate, up = self.gate_up(F.silu(self.middle(F.silu(joined)))).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The energy head."""
    return {"energy": EnergyHead}
