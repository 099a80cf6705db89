"""Strata head: a draw is one network call on a code and noise, and the loss draws every code.

The energy head has to part connected noise into separated modes, which takes a steep network (Salmona et
al., Can Push-forward Generative Models Fit Multimodal Distributions?, 2022, https://arxiv.org/abs/2206.14476).
Here a code is picked first, by weights that the head knows, and noise moves the draw within it. In training
each code is drawn once in each of two groups of noise, and the loss is an unbiased estimate of the energy
score of exact draws (`calmkit.heads.strata_score`), with a gradient for the weights.

Source: the network and the score, Shao et al., Continuous Autoregressive Language Models, 2025, section 3.3.3
and Eq. 9-10. https://arxiv.org/abs/2510.27688 Codes and strata are ours.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calmkit.heads.energy_score import at_least_float32
from calmkit.heads.noise_mlp import NoiseMLP
from calmkit.heads.strata_score import gaussian_two_group_loss, two_group_loss
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
    StatesWeightedFlops,
    TakesDraws,
    WeightedHead,
)
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import latent_dim_of, require_at_least

Weights = Literal["learned", "uniform"]


@final
class StrataHead(WeightedHead, StatesDrawFlops, StatesTrainingFlops, StatesWeightedFlops, TakesDraws):
    """A code by a weight that the head knows, then one network call on code and noise; energy score of all.

    Temperature T raises the weights to the power 1 / T, exactly; the noise within a code stays, so towards 0
    a draw is one of the heaviest code. Uniform weights have no temperature. Guidance mixes the conditions h.

    Args:
        hidden_dim: H.
        event: A latent vector.
        num_codes: C. A unit of a training batch takes 2 C draws; with one code it is the energy head of two.
        weights: `learned`: a softmax over a linear map of h, uniform in a fresh head. `uniform`: every code
            alike, whatever h.
        num_targets: R, draws of the posterior in the loss; a point posterior counts once.
        exponent: Power of the distance, in (0, 2) without the ends.
        noise_dim: Width of the noise, uniform on [-0.5, 0.5). Behind its first layer and norm a code, a
            learned vector that is standard normal in a fresh head, is added to it.
        depth: Residual blocks.
        width: W, of the network; None: `hidden_dim`.
        init_std: Standard deviation of the last layer's weights in a fresh network. At 0 all codes' first
            draws are 0; it is allowed because whoever asks what the codes add has to leave the start of the
            energy head as it is.

    Raises:
        ValueError: For a setting out of its range, or an event that is no latent vector.
    """

    info = HeadInfo(
        sampling="one_step",
        temperature="logits",
        options=frozenset({"temperature", "generator"}),
        half_precision=True,
        guidance="condition",
    )

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        num_codes: int = 32,
        weights: Weights = "learned",
        num_targets: int = 100,  # M in Eq. 10; Table 3
        exponent: float = 1.0,  # alpha in Eq. 10; Table 4
        noise_dim: int = 64,  # noise_size of the official code
        depth: int = 2,
        width: int | None = None,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        latent_dim = latent_dim_of("strata", event)
        if weights not in ("learned", "uniform"):
            raise ValueError(f"strata: weights must be 'learned' or 'uniform', got {weights!r}.")
        if not 0 < exponent < 2:
            raise ValueError(f"strata: exponent must lie in (0, 2), got {exponent}; 1.0 would do.")
        if not 0 <= init_std < math.inf:
            raise ValueError(f"strata: init_std must be from 0 on and finite, got {init_std}; 0.02 would do.")
        require_at_least("strata", 1, num_codes=num_codes, num_targets=num_targets, noise_dim=noise_dim)
        require_at_least("strata", 1, depth=depth, width=width)
        self.num_codes, self.num_targets, self.exponent = num_codes, num_targets, exponent
        self.network = NoiseMLP(noise_dim, hidden_dim, latent_dim, width or hidden_dim, depth, num_codes)
        nn.init.normal_(self.network.out.weight, std=init_std)
        self.weigh = nn.Linear(hidden_dim, num_codes) if weights == "learned" else None
        if self.weigh is None:  # a temperature would change nothing, so it is refused
            plain = replace(type(self).info, temperature="none", options=frozenset({"generator"}))
            self.info = plain  # type: ignore[misc]
        else:
            nn.init.zeros_(self.weigh.weight)
            nn.init.zeros_(self.weigh.bias)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Energy loss per unit, in latent units to the power `exponent`, as that of `energy`.

        Its floor is above 0 where the posterior has a spread. The target is a constant: it gets no gradient.
        """
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        draws = self._draw(h, self._every_code(h).repeat(2, 1), SampleOptions())  # [2 C, N, D]
        groups, weights = draws.unflatten(0, (2, -1)), self._log_weights(h, SampleOptions()).exp()
        flat = target.flattened()
        if flat.log_std is None:
            per_unit = two_group_loss(groups, weights, flat.points(self.num_targets), self.exponent)
        else:
            wide = at_least_float32(h.dtype)
            noise = torch.randn(self.num_targets, draws.shape[-1], device=h.device, dtype=wide)
            per_unit = gaussian_two_group_loss(groups, weights, flat.mean, flat.log_std, noise, self.exponent)
        return per_unit.reshape(context.h.shape[:-1])

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """A code by its weight, then one network call, for each draw."""
        options = self.info.accept(options)
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        weights = self._log_weights(h, options).exp()
        code = torch.multinomial(weights, num, replacement=True, generator=options.generator).T  # [num, N]
        draws = self._draw(h, code, options)
        return draws.reshape(num, *context.h.shape[:-1], draws.shape[-1])

    def weighted_draws(
        self, context: Context, options: SampleOptions | None = None
    ) -> tuple[Float[Tensor, "*units C"], Float[Tensor, "C *units D"]]:
        """The codes' weights, and one draw of each code."""
        options = self.info.accept(options)
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        units = context.h.shape[:-1]
        draws = self._draw(h, self._every_code(h), options)
        log_weights = self._log_weights(h, options)
        return log_weights.reshape(*units, len(draws)), draws.reshape(len(draws), *units, draws.shape[-1])

    def forward_flops(self, units: int) -> int:
        """Weights, both groups, and the score against a posterior with a spread (a point has none)."""
        return units * (self.draw_flops(2 * self.num_codes) + self._score_flops())

    def training_flops(self, units: int) -> int:
        """The score makes its gradient in the forward pass."""
        return units * (PASSES * self.draw_flops(2 * self.num_codes) + self._score_flops())

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """Weights and the condition's share once, the rest of the network for each draw."""
        del options
        shared = self.network.condition_flops()
        weights = 0 if self.weigh is None else linear_flops(self.weigh)
        return weights + shared + num * (linear_flops(self.network) - shared)

    def weighted_flops(self) -> int:
        """As many draws as there are codes."""
        return self.draw_flops(self.num_codes)

    def _score_flops(self) -> int:
        """Of `gaussian_two_group_loss`, S = 2 C: (S + 1) D R for the distances, S R D for their gradient."""
        return 2 * (4 * self.num_codes + 1) * self.num_targets * self.network.out.out_features

    def _log_weights(self, h: Float[Tensor, "N H"], options: SampleOptions) -> Float[Tensor, "N C"]:
        if self.weigh is None:
            alike = torch.zeros(self.num_codes, dtype=at_least_float32(h.dtype), device=h.device)
            return alike.log_softmax(-1).expand(len(h), -1)
        logits = self.weigh(h)
        logits = logits.to(at_least_float32(logits.dtype))
        if options.temperature is not None:
            logits = (logits - logits.amax(-1, keepdim=True)) / options.temperature
        return logits.log_softmax(-1)

    def _every_code(self, h: Float[Tensor, "N H"]) -> Int[Tensor, "C N"]:
        return torch.arange(self.num_codes, device=h.device).unsqueeze(-1).expand(-1, len(h))

    def _draw(
        self, h: Float[Tensor, "N H"], code: Int[Tensor, "S N"], options: SampleOptions
    ) -> Float[Tensor, "S N D"]:
        # Uniform numbers drawn in bfloat16 take 256 values only: draw wide, then round.
        noise = torch.rand(
            (*code.shape, self.network.noise_dim),
            dtype=at_least_float32(h.dtype),
            device=h.device,
            generator=options.generator,
        )
        return self.network((noise - 0.5).to(h.dtype), h, code)


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The strata head."""
    return {"strata": StrataHead}
