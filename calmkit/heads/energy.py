"""Energy head: a draw is one network call on fresh noise, and the loss is the energy score.

The score (`calmkit.heads.energy_score`) needs draws only, no density: it pulls every draw towards draws of
the posterior and pushes the draws apart, and for an exponent in (0, 2) the true distribution alone is best.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 3.3.3 and Eq. 9-10.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calmkit.heads.draw_likelihood import draw_log_prob
from calmkit.heads.energy_score import at_least_float32, energy_loss, gaussian_energy_loss
from calmkit.heads.energy_settings import EnergySchedule, require_score
from calmkit.heads.marginal_score import marginal_loss
from calmkit.heads.modulated_mlp import network_with
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    PASSES,
    Context,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    Posterior,
    SampleOptions,
    ScheduledHead,
    StatesDrawFlops,
    StatesTrainingFlops,
    TakesDraws,
)
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import latent_dim_of, require_at_least


@final
class EnergyHead(ScheduledHead, StatesDrawFlops, StatesTrainingFlops, TakesDraws):
    """CALM's head: one-step draws from uniform noise, trained by the energy score.

    Temperature is a factor on the scale of the input noise: a heuristic, not a power of the density. Guidance
    mixes the conditions h, as EAR's code does. At its defaults it is the official head; what else is offered
    are ways to make it learn faster, one setting each.

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
        num_codes: C, learned vectors; each draw adds one of them to its noise, by a fair die of its own, so
            draws stay independent and the score unbiased. A temperature leaves the codes alone.
        noise: `input`: the noise goes through the blocks, which read the condition. `modulation`: the
            condition goes through them, and the noise scales and shifts what every norm gives (EAR, FGN).
        offset: c, in latent units: sqrt(d^2 + c^2) - c stands for the distance d, smooth where draws are
            near. Still a strictly proper score at exponent 1 (`calmkit.heads.energy_score` says why), and
            refused at any other.
        marginal: Weight, in [0, 1], of the mean over the dimensions of their own scores at exponent 1, twice
            the CRPS (FGN); 1 - marginal is that of the score above. Strictly proper below 1; at 1 how
            dimensions depend on each other is not learned.
        first_exponent: Training starts at this exponent, in (0, 2), and moves linearly to `exponent` over its
            first half. None: it does not move.
        likelihood_until: Over this fraction of the training the loss also has the negative log-likelihood of
            a posterior draw under Gaussians of one learned scale (1 at first, in latent units) around the S
            draws, in nats, with a weight that falls linearly from 1 to 0. 0: never.

    The last two depend on how far training is; everywhere else the loss is that of the end (`ScheduledHead`).

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
        num_codes: int = 0,
        noise: Literal["input", "modulation"] = "input",
        offset: float = 0.0,
        marginal: float = 0.0,
        first_exponent: float | None = None,
        likelihood_until: float = 0.0,
    ) -> None:
        super().__init__()
        latent_dim = latent_dim_of("energy", event)
        self.schedule = EnergySchedule(exponent, first_exponent, likelihood_until)
        require_score(self.schedule, repulsion, offset, marginal)
        if not 0 <= init_std < math.inf:
            raise ValueError(f"energy: init_std must be at least 0 and finite, got {init_std}; 0.1 would do.")
        require_at_least("energy", 2, num_draws=num_draws)  # the loss compares draws with each other
        require_at_least("energy", 1, num_targets=num_targets, noise_dim=noise_dim, depth=depth, width=width)
        require_at_least("energy", 0, num_codes=num_codes)
        self.num_draws, self.num_targets, self.exponent = num_draws, num_targets, exponent
        self.repulsion, self.offset, self.marginal = repulsion, offset, marginal
        self.progress = 1.0
        network = network_with(noise)
        self.network = network(noise_dim, hidden_dim, latent_dim, width or hidden_dim, depth, num_codes)
        if init_std > 0:
            nn.init.normal_(self.network.out.weight, std=init_std)
        self.log_scale: nn.Parameter | None
        self.register_parameter("log_scale", nn.Parameter(torch.zeros(1)) if likelihood_until > 0 else None)

    def at_progress(self, fraction: float) -> None:
        """The loss of this fraction of the training: its exponent, and its weight of the likelihood."""
        self.progress = fraction

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Energy loss per unit, in latent units to the power `exponent`.

        Its floor is above 0 where the posterior has a spread. The target is a constant: it gets no gradient.
        """
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        draws = self.network.draw(h, self.num_draws)
        flat = target.flattened()
        per_unit = self._score(draws, flat)
        if self.log_scale is not None:  # at weight 0 too: parameters have a gradient in every step
            z, weight = flat.sample(1)[0].detach(), self.schedule.likelihood_at(self.progress)
            per_unit = per_unit - weight * draw_log_prob(draws, z, self.log_scale)
        return per_unit.reshape(context.h.shape[:-1])

    def _score(self, draws: Float[Tensor, "S N D"], target: Posterior) -> Float[Tensor, " N"]:
        """Of the joint law and of the marginal ones, by their weights."""
        if self.marginal == 0:
            return self._joint_score(draws, target)
        marginal = self.marginal * self._marginal_score(draws, target)
        if self.marginal == 1:
            return marginal
        return (1 - self.marginal) * self._joint_score(draws, target) + marginal

    def _marginal_score(self, draws: Float[Tensor, "S N D"], target: Posterior) -> Float[Tensor, " N"]:
        if target.log_std is not None:
            return marginal_loss(draws, target.mean, target.log_std, self.repulsion)
        points = target.points(self.num_targets)
        return torch.stack([marginal_loss(draws, z, None, self.repulsion) for z in points]).mean(0)

    def _joint_score(self, draws: Float[Tensor, "S N D"], target: Posterior) -> Float[Tensor, " N"]:
        exponent, mean, log_std = self.schedule.exponent_at(self.progress), target.mean, target.log_std
        if log_std is None:
            points = target.points(self.num_targets)
            return energy_loss(draws, points, exponent, self.repulsion, self.offset)
        noise = torch.randn(
            self.num_targets, mean.shape[-1], device=draws.device, dtype=at_least_float32(draws.dtype)
        )
        return gaussian_energy_loss(draws, mean, log_std, noise, exponent, self.repulsion, self.offset)

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Independent draws, one network call each."""
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        options = self.info.accept(options)
        temperature = 1.0 if options.temperature is None else options.temperature
        draws = self.network.draw(h, num, temperature, options.generator)
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
        """Of `gaussian_energy_loss`: (S + 1) D R for the distances, S R D for their gradient.

        Marginal scores and the likelihood have no matrix product.
        """
        if self.marginal == 1:
            return 0
        return 2 * (2 * self.num_draws + 1) * self.num_targets * self.network.out.out_features


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The energy head."""
    return {"energy": EnergyHead}
