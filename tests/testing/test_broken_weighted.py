"""The kit sees a head whose weights and values are not those of its draws: each breaks one law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.heads.mixture import MixtureHead
from calmkit.heads.strata import StrataHead
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions, WeightedHead
from calmkit.testing import laws
from calmkit.testing.weighted import check_weighted

EVENT = EventSpec((3,))
Weighted = tuple[Tensor, Tensor]


class Sound(WeightedHead):
    """A small mixture, wrapped, of weights that are far from alike; it keeps every law."""

    info = replace(MixtureHead.info, guidance="none")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.inner: Any = MixtureHead(hidden_dim, event, num_components=3, depth=1)
        torch.nn.init.normal_(self.inner.network.write.bias, std=2.0)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(context, num, options)

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        return self.inner.weighted_draws(context, options)


class SoundCodes(Sound):
    """A small strata head, wrapped likewise: its temperature acts on the weights."""

    info = StrataHead.info

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        WeightedHead.__init__(self)
        self.inner = StrataHead(hidden_dim, event, num_codes=3, depth=1, init_std=0.5)
        with torch.no_grad():  # the weights .09, .24, .67 at temperature 1 are .02, .12, .86 at a half
            self.inner.weigh.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))


class Alike(Sound):
    """Says that all components weigh the same."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        log_weights, values = super().weighted_draws(context, options)
        return torch.zeros_like(log_weights).log_softmax(-1), values


class Middles(Sound):
    """Gives the places of the components instead of draws from them."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        return super().weighted_draws(context, replace(options or SampleOptions(), temperature=1e-9))


class Unnormalised(Sound):
    """Gives logits."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        log_weights, values = super().weighted_draws(context, options)
        return log_weights + 0.5, values


class Lukewarm(SoundCodes):
    """Forgets the temperature."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        return super().weighted_draws(context, replace(options or SampleOptions(), temperature=None))


class Flipped(Sound):
    """Gives the values in another order than the weights."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        log_weights, values = super().weighted_draws(context, options)
        return log_weights, values.flip(0)


class Inside(Sound):
    """Gives the values with M behind the units."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        log_weights, values = super().weighted_draws(context, options)
        return log_weights, values.movedim(0, -2)


class Eager(Sound):
    """Takes any option."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        return super().weighted_draws(
            context, replace(options or SampleOptions(), num_steps=None, solver=None)
        )


class Own(Sound):
    """Spends torch's randomness where a generator was given."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        return super().weighted_draws(context, replace(options or SampleOptions(), generator=None))


class Halved(Sound):
    """Rounds its weights to half precision where it is called in it."""

    def weighted_draws(self, context: Context, options: SampleOptions | None = None) -> Weighted:
        log_weights, values = super().weighted_draws(context, options)
        return log_weights.to(context.h.dtype), values


def check(cls: type[WeightedHead]) -> None:
    """`check_head` calls this for a `WeightedHead`; the other laws have tests of their own."""
    with laws.undisturbed():
        part = laws.subject("heads", cls, {})
        check_weighted(part, part.build(laws.HIDDEN_DIM, EVENT), EVENT)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Alike, "a pick by its weight is a draw': distribution functions"),
        (Middles, "a pick by its weight is a draw': distribution functions"),
        (Lukewarm, "a pick by its weight is a draw': temperature 0.5"),
        (Flipped, "a pick by its weight is a draw"),
        (Unnormalised, "weights sum to 1"),
        (Inside, r"log weights are \[\*units, M\], values \[M, \*units, \*event\]"),
        (Eager, "weighted draws take the sample options that a draw takes': 'num_steps'"),
        (Own, "a given generator is the only source of randomness"),
        (Halved, "log weights are float32 or wider"),
    ],
)
def test_weights_and_values_that_are_not_those_of_the_draws_are_seen(
    cls: type[WeightedHead], law: str
) -> None:
    with pytest.raises(AssertionError, match=law):
        check(cls)


@pytest.mark.parametrize("cls", [Sound, SoundCodes])
def test_a_weighted_head_that_keeps_every_law_passes(cls: type[WeightedHead]) -> None:
    check(cls)
