"""Tied mixture head: Gaussians that all units share, and weights that each unit has of its own.

The mixture head places a few Gaussians anew for every unit; this one knows thousands of places, learned once,
and says of a unit how likely each is: a softmax over places in the latent space, as a language model has one
over tokens. It begins at the posteriors of the units that occur most often in the training split. One network
call gives all weights, so a draw is one call, the density is exact, and a temperature on the weights is free.

Source: tied (or semi-continuous) mixtures, Huang and Jack, Semi-continuous hidden Markov models for speech
signals, 1989, https://doi.org/10.1016/0885-2308(89)90020-X Here the weights come from a network.
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from calmkit.heads.energy_score import at_least_float32
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    PASSES,
    Context,
    DensityHead,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    Posterior,
    SampleOptions,
    StartsFromData,
    StatesDensityFlops,
    StatesDrawFlops,
    StatesTrainingFlops,
    StatesWeightedFlops,
    TakesDraws,
    WeightedHead,
)
from calmkit.nn.conditional_mlp import ConditionalMLP
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import latent_dim_of, require_at_least

BLOCK_ELEMENTS = 2**26  # units x components at once, 256 MiB in float32; beyond it, blocks computed twice
UNITS_PER_COMPONENT = 16  # that a start looks at: the commonest are known from a sample of the split
WIDER = 1.5  # than its posterior a component begins, so that units without one are within reach
SAME = (
    1e3  # means that agree to a thousandth are of one unit: sums of another order differ in the last digits
)


@final
class TiedMixtureHead(
    DensityHead,
    WeightedHead,
    StartsFromData,
    TakesDraws,
    StatesDrawFlops,
    StatesTrainingFlops,
    StatesDensityFlops,
    StatesWeightedFlops,
):
    """p(z | h) = sum_m softmax(f(h))_m N(z; c_m + g(h), s_m^2): places c, widths s shared by all units.

    Temperature T raises the weights to the power 1 / T; the widths stay. Guidance mixes the conditions h.

    Args:
        hidden_dim: H.
        event: A latent vector.
        num_components: M. Text of K tokens a unit wants as many as there are common chunks: on English of
            four bytes 16,384 were far ahead of 4,096 (docs/one-step.md).
        repeats: Posterior draws per unit in the loss.
        depth: Residual blocks before the weights.
        width: W, of the blocks; None: `hidden_dim`.
        offset: Whether g, a linear map, moves all places of a unit together.
        min_scale: Smallest standard deviation s, in latent units. The density is found by matrix products, so
            float32 leaves it an error of about 1e-7 |z - c|^2 / s^2: at 1e-3, where points end, some nats.

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
        num_components: int = 4096,
        repeats: int = 1,
        depth: int = 2,
        width: int | None = None,
        offset: bool = True,
        min_scale: float = 1e-3,
    ) -> None:
        super().__init__()
        latent_dim = latent_dim_of("tied_mixture", event)
        if not 0 < min_scale < math.inf:
            raise ValueError(f"tied_mixture: min_scale must be above 0, got {min_scale}; 1e-3 would do.")
        sizes = {"num_components": num_components, "repeats": repeats, "depth": depth, "width": width}
        require_at_least("tied_mixture", 1, **sizes)
        self.num_components, self.repeats, self.min_scale = num_components, repeats, min_scale
        self.offset = offset
        out_dim = num_components + (latent_dim if offset else 0)
        self.network = ConditionalMLP(hidden_dim, out_dim, depth=depth, width=width)
        # Vectors of M D numbers: weight decay is for matrices, and would pull places to 0 and widths to 1.
        self.loc = nn.Parameter(torch.randn(num_components * latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(num_components * latent_dim))
        nn.init.normal_(self.network.write.weight, std=0.02)  # as an embedding table begins
        nn.init.zeros_(self.network.write.bias)

    @property
    def places(self) -> Float[Tensor, "M D"]:
        """Where the components are, c."""
        return self.loc.view(self.num_components, -1)

    @property
    def units_wanted(self) -> int:
        """Sixteen per component."""
        return UNITS_PER_COMPONENT * self.num_components

    @torch.no_grad()
    def start(self, target: Posterior) -> None:
        """Components at the posteriors of the commonest of these units, weighted as often as they occur.

        Of units that occur equally often, as most of an image do, those that were read first. Where fewer
        differ than there are components, the rest go to draws from these posteriors, which share the weight
        of their unit. Points, which have no spread, give components a quarter as wide as the whole.
        """
        wide = target.mean.reshape(-1, self.places.shape[-1]).to(at_least_float32(self.loc.dtype))  # [N, D]
        unit, share = _commonest(wide, self.num_components)
        spread = 0.25 * wide.std(0, correction=0).expand_as(wide)
        if target.log_std is not None:
            spread = target.log_std.reshape(wide.shape).to(wide.dtype).exp()
        first = torch.arange(len(unit), device=unit.device) < len(unit.unique())
        noise = torch.randn_like(wide[unit]) * ~first.unsqueeze(-1)
        self.places.copy_(wide[unit] + spread[unit] * noise)
        self.log_scale.copy_((WIDER * spread[unit]).clamp(min=self.min_scale).log().flatten())
        self.network.write.bias[: self.num_components].copy_(share.log())

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Negative log density of posterior draws, nats per unit; may be negative."""
        draws = target.sample(self.repeats)  # [R, *units, D]
        return -self._log_prob(context, draws).mean(0)

    def log_prob(self, context: Context, z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units"]:
        """Exact log density, nats per unit."""
        return self._log_prob(context, z.unsqueeze(0))[0]

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """A component by its weight, then a draw from it."""
        options = self.info.accept(options)
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        log_weights, offset = self._parts(h, options)
        weights = log_weights.exp()
        component = torch.multinomial(
            weights, num, replacement=True, generator=options.generator
        ).T  # [num, N]
        draws = self._draw(self.places[component], self._scale()[component], offset, options)
        return draws.reshape(num, *context.h.shape[:-1], draws.shape[-1]).to(h.dtype)

    def weighted_draws(
        self, context: Context, options: SampleOptions | None = None
    ) -> tuple[Float[Tensor, "*units M"], Float[Tensor, "M *units D"]]:
        """The components' weights, and one draw from each."""
        options = self.info.accept(options)
        h = context.h.reshape(-1, context.h.shape[-1])  # [N, H]
        log_weights, offset = self._parts(h, options)
        both = (self.places, self._scale())  # [M, D]
        loc, scale = (value.unsqueeze(1).expand(-1, len(h), -1) for value in both)
        draws = self._draw(loc, scale, offset, options).to(h.dtype)
        units = context.h.shape[:-1]
        return log_weights.reshape(*units, -1), draws.reshape(len(draws), *units, draws.shape[-1])

    def forward_flops(self, units: int) -> int:
        """One set of weights serves all draws of the posterior; each takes two products with all places."""
        return units * (linear_flops(self.network) + self.repeats * self._places_flops())

    def training_flops(self, units: int) -> int:
        """The places' products have no gradient for z, but one for the offset."""
        passes = PASSES if self.offset else PASSES - 1
        return units * (PASSES * linear_flops(self.network) + passes * self.repeats * self._places_flops())

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """One set of weights serves all draws."""
        del num, options
        return linear_flops(self.network)

    def weighted_flops(self) -> int:
        """One set of weights."""
        return linear_flops(self.network)

    def density_flops(self) -> int:
        """The weights again, and two products with all places."""
        return linear_flops(self.network) + self._places_flops()

    def _places_flops(self) -> int:
        return 2 * 2 * self.loc.numel()

    def _scale(self) -> Float[Tensor, "M D"]:
        return self.log_scale.view_as(self.places).exp().clamp(min=self.min_scale)

    def _numbers(self, h: Float[Tensor, "N H"]) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N D"] | None]:
        """Logits of the weights, and by how much the places move, in float32 or wider."""
        numbers = self.network(h)
        numbers = numbers.to(at_least_float32(numbers.dtype))
        logits, offset = numbers.split([self.num_components, numbers.shape[-1] - self.num_components], -1)
        return logits, offset if self.offset else None

    def _parts(
        self, h: Float[Tensor, "N H"], options: SampleOptions
    ) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N D"] | None]:
        """Log weights at a temperature, and by how much the places move."""
        logits, offset = self._numbers(h)
        if options.temperature is not None:
            logits = (logits - logits.amax(-1, keepdim=True)) / options.temperature
        return logits.log_softmax(-1), offset

    def _draw(
        self, loc: Tensor, scale: Tensor, offset: Float[Tensor, "N D"] | None, options: SampleOptions
    ) -> Float[Tensor, "any N D"]:
        wide = at_least_float32(loc.dtype)
        noise = torch.randn(loc.shape, dtype=wide, device=loc.device, generator=options.generator)
        draws = loc.to(wide) + scale.to(wide) * noise
        return draws if offset is None else draws + offset

    def _log_prob(self, context: Context, z: Float[Tensor, "R *units D"]) -> Float[Tensor, "R *units"]:
        h = context.h.reshape(-1, context.h.shape[-1])
        flat = z.reshape(len(z), len(h), z.shape[-1])
        size = max(1, BLOCK_ELEMENTS // (self.num_components * len(z)))
        if len(h) <= size:
            return self._density(h, flat).reshape(z.shape[:-1])
        blocks = [
            checkpoint(self._density, one, some, use_reentrant=False, preserve_rng_state=False)
            for one, some in zip(h.split(size), flat.split(size, 1), strict=True)
        ]
        return torch.cat(blocks, 1).reshape(z.shape[:-1])

    def _density(self, h: Float[Tensor, "N H"], z: Float[Tensor, "R N D"]) -> Float[Tensor, "R N"]:
        """|(z - c) / s|^2 = z^2 . s^-2 - 2 z . c s^-2 + c^2 . s^-2, about the middle of all places."""
        logits, offset = self._numbers(h)
        wide = logits.dtype
        with torch.autocast(h.device.type, enabled=False):
            loc, scale = self.places.to(wide), self._scale().to(wide)  # wide first: half rounds a difference
            middle = loc.detach().mean(0)  # any point would do, so it has no gradient: z would have one by it
            loc = loc - middle
            z = z.to(wide) - middle
            z = z if offset is None else z - offset
            precision = scale.square().reciprocal()
            constant = -0.5 * (loc.square() * precision).sum(-1) - scale.log().sum(-1)
            both, of_both = (
                torch.cat([z, z.square()], -1),
                torch.cat([loc * precision, -0.5 * precision], -1).T,
            )
            base = logits + constant  # [N, M]: few passes over what is as large as this
            inside = torch.stack([torch.addmm(base, one, of_both) for one in both])  # [R, N, M]
            log_density = inside.logsumexp(-1) - logits.logsumexp(-1)
            return log_density - 0.5 * z.shape[-1] * math.log(2 * math.pi)


def _commonest(wide: Float[Tensor, "N D"], num: int) -> tuple[Int[Tensor, " num"], Float[Tensor, " num"]]:
    """The first place of each of the commonest units, over and over where there are fewer than `num`; and how
    often each of these occurs, as shares that sum to 1.
    """
    _, kind, counts = (wide * SAME).round().unique(dim=0, return_inverse=True, return_counts=True)
    places = torch.arange(len(wide), device=wide.device)
    first = torch.full_like(counts, len(wide)).scatter_reduce_(0, kind, places, "amin")
    read = first.argsort()  # kinds come sorted by their values, so a tie among them would favour small ones
    common = read[counts[read].argsort(descending=True, stable=True)][:num]
    again = torch.arange(num, device=wide.device) % len(common)
    share = (counts[common] / again.bincount()).to(wide.dtype)[again]
    return first[common][again], share / share.sum()


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The tied mixture."""
    return {"tied_mixture": TiedMixtureHead}
