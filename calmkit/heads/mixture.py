"""Mixture head: a mixture of diagonal Gaussians, with an exact density.

One network call gives M weights, locations and scales; the loss is the negative log-likelihood of a posterior
draw. The scale is never below `min_scale`, but a point posterior rewards ever smaller scales: this head wants
one with a spread.

Source: Tschannen et al., GIVT: Generative Infinite-Vocabulary Transformers, 2023, and its code, proj/givt of
big_vision. https://arxiv.org/abs/2312.02116
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.heads.gaussian_mixture import Mixture, guided_mixture, mixture_log_prob
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Context,
    DensityHead,
    EventSpec,
    GenerativeHead,
    Guided,
    GuidedHead,
    HeadInfo,
    Posterior,
    SampleOptions,
    StatesDensityFlops,
    StatesDrawFlops,
    StatesWeightedFlops,
    TakesDraws,
    WeightedHead,
)
from calmkit.nn.conditional_mlp import ConditionalMLP
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import latent_dim_of, require_at_least

WIDEST = 2.0  # how much wider guidance may make a component, where it is limited


@final
class MixtureHead(
    DensityHead,
    GuidedHead,
    WeightedHead,
    StatesDrawFlops,
    StatesDensityFlops,
    StatesWeightedFlops,
    TakesDraws,
):
    """GIVT's head: a Gaussian mixture in one network call; temperature scales each component's deviation.

    Temperature leaves the weights unchanged; towards 0 a draw becomes the location of a component. Guidance
    tilts the mixture in closed form (`calmkit.heads.gaussian_mixture`); temperature scales what comes of it.

    Args:
        hidden_dim: H.
        event: A latent vector.
        num_components: M.
        repeats: Posterior draws per unit in the loss.
        depth: Residual blocks before the projection; GIVT has none, the default matches the energy head.
        width: W, of the blocks; None: `hidden_dim`.
        min_scale: Smallest standard deviation, in latent units.
        limit_guidance: Where guidance would make a component more than twice as wide, or leave no density at
            all, as where the null condition is the narrower one, lower its weight for that unit until it does
            not. False: a weight that leaves no density is refused.

    Raises:
        ValueError: For a setting out of its range, or an event that is no latent vector.
    """

    info = HeadInfo(
        sampling="one_step",
        temperature="scale",
        options=frozenset({"temperature", "generator"}),
        half_precision=True,
        guidance="density",
    )

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        num_components: int = 16,  # k of the official code
        repeats: int = 1,
        depth: int = 4,
        width: int | None = None,
        min_scale: float = 1e-6,  # the official code
        limit_guidance: bool = False,
    ) -> None:
        super().__init__()
        latent_dim = latent_dim_of("mixture", event)
        if min_scale <= 0:
            raise ValueError(f"mixture: min_scale must be above 0, got {min_scale}; 1e-6 would do.")
        require_at_least(
            "mixture", 1, num_components=num_components, repeats=repeats, depth=depth, width=width
        )
        self.num_components, self.repeats, self.min_scale = num_components, repeats, min_scale
        self.widest = WIDEST if limit_guidance else None
        out_dim = num_components * (1 + 2 * latent_dim)
        self.network = ConditionalMLP(hidden_dim, out_dim, depth=depth, width=width)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Negative log density of posterior draws, nats per unit; may be negative."""
        mixture = self._mixture(context)
        draws = target.sample(self.repeats)  # [R, *units, D]
        return -torch.stack([mixture_log_prob(z, mixture) for z in draws]).mean(0)

    def log_prob(self, context: Context, z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units"]:
        """Exact log density, nats per unit."""
        return mixture_log_prob(z, self._mixture(context))

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """A component by its weight, then a draw from it."""
        options = self.info.accept(options)
        return self._draw(self._mixture(context), num, options).to(context.h.dtype)

    def sample_guided(
        self, guided: Guided, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Draws of `guided_mixture`: the first term's mixture, tilted by the others.

        Raises:
            ValueError: Where a unit's product of densities has no finite mass and nothing limits guidance,
                naming a weight that would do.
        """
        options = self.info.accept(options)
        mixtures = [self._mixture(context) for context, _ in guided]
        mixture = guided_mixture(mixtures, [weight for _, weight in guided], self.widest)
        return self._draw(mixture, num, options).to(guided[0][0].h.dtype)

    def weighted_draws(
        self, context: Context, options: SampleOptions | None = None
    ) -> tuple[Float[Tensor, "*units M"], Float[Tensor, "M *units D"]]:
        """The components' weights, and one draw from each."""
        options = self.info.accept(options)
        log_weights, loc, scale = self._mixture(context)
        draws = _spread(loc, scale, options).to(context.h.dtype)  # [*units, M, D]
        return log_weights, draws.movedim(-2, 0)

    def _draw(self, mixture: Mixture, num: int, options: SampleOptions) -> Tensor:
        units = mixture.log_weights.shape[:-1]
        weights = mixture.log_weights.exp().reshape(-1, self.num_components)  # [N, M]
        component = torch.multinomial(weights, num, replacement=True, generator=options.generator).T
        unit = torch.arange(len(weights), device=weights.device)
        shape = (*weights.shape, mixture.loc.shape[-1])  # [N, M, D], of which [num, N, D] are picked
        loc, scale = (value.reshape(shape)[unit, component] for value in mixture[1:])
        draws = _spread(loc, scale, options)
        return draws.reshape(num, *units, draws.shape[-1])

    def forward_flops(self, units: int) -> int:
        """One mixture serves all draws, of the posterior too."""
        return units * linear_flops(self.network)

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """One mixture serves all draws."""
        del num, options
        return self.forward_flops(1)

    def weighted_flops(self) -> int:
        """One mixture, which holds them all."""
        return self.forward_flops(1)

    def density_flops(self) -> int:
        """The mixture again: it is not kept from the draw."""
        return self.forward_flops(1)

    def _mixture(self, context: Context) -> Mixture:
        numbers = self.network(context.h)
        # Densities span more than half precision holds. Autocast leaves the rest alone: no matrix products.
        numbers = numbers.to(torch.promote_types(numbers.dtype, torch.float32))
        logits, rest = numbers.split([self.num_components, numbers.shape[-1] - self.num_components], dim=-1)
        loc, raw_scale = rest.unflatten(-1, (self.num_components, -1)).chunk(2, dim=-1)
        return Mixture(logits.log_softmax(-1), loc, square_plus(raw_scale).clamp(min=self.min_scale))


def _spread(
    loc: Float[Tensor, "*any D"], scale: Float[Tensor, "*any D"], options: SampleOptions
) -> Float[Tensor, "*any D"]:
    """A draw from each of these Gaussians, at the temperature that is asked for."""
    noise = torch.randn(loc.shape, dtype=loc.dtype, device=loc.device, generator=options.generator)
    temperature = 1.0 if options.temperature is None else options.temperature
    return loc + temperature * scale * noise


def square_plus(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """(x + sqrt(x^2 + 4)) / 2, positive and smooth; 1 at 0, without cancellation for very negative x.

    Source: Barron, Squareplus: A Softplus-Like Algebraic Rectifier, 2021, Eq. 3. https://arxiv.org/abs/2112.11687
    """
    size = torch.where(x < 0, -x, x)  # not abs: its gradient at 0 is 0, the true one is one half
    above = (size + torch.sqrt(size.square() + 4)) / 2
    return torch.where(x < 0, 1 / above, above)  # f(-x) f(x) = 1


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The mixture head."""
    return {"mixture": MixtureHead}
