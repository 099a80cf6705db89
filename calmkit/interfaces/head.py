"""GenerativeHead: p(z | context), known by a loss and by draws.

A head is either final or one of these promises: `GenerativeHead`; `DensityHead`, which also knows its exact
density; `PlacewiseHead`, whose density is over ids and known place by place; `IterativeHead`, which calls its
network several times per draw; `GuidedHead`; `ScheduledHead`, whose loss moves while it is trained;
`WeightedHead`, whose draw is one of a few values of known weights. Callers ask `isinstance`, never `hasattr`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, final, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from calmkit.interfaces.backbone import Context
from calmkit.interfaces.posterior import Posterior


@final
@dataclass(frozen=True)
class SampleOptions:
    """Wishes for a draw. None means: as the head was built.

    Attributes:
        temperature: Sharper below 1, in the head's own sense (`HeadInfo.temperature`).
        num_steps: Steps of an iterative head.
        solver: Solver or scheduler of an iterative head, by name.
        generator: Source of randomness instead of torch's default one.
    """

    temperature: float | None = None
    num_steps: int | None = None
    solver: str | None = None
    generator: torch.Generator | None = None

    def set_fields(self) -> frozenset[str]:
        """Names of the fields that are not None."""
        return frozenset(field.name for field in fields(self) if getattr(self, field.name) is not None)


Sampling = Literal["one_step", "iterative", "autoregressive"]
Temperature = Literal["none", "scale", "noise", "logits"]
GuidancePlace = Literal["none", "condition", "output", "density"]
Guided = tuple[tuple[Context, float], ...]
"""Contexts of the same units and their weights, whose sum is 1: `((c, w), (null, 1 - w))` is guidance of
weight w. Three terms are two levels of it."""
EVENT_KINDS = ("continuous", "tokens")
"""Values of `EventSpec.kind`."""


@final
@dataclass(frozen=True)
class HeadInfo:
    """Facts about a head. The program goes by each of them, and by nothing else that a head may be.

    Attributes:
        sampling: How a draw is made: one network call, several (then the class is an `IterativeHead`, and no
            other is), or one per token, which is counted as K calls.
        temperature: What `SampleOptions.temperature` acts on; `"none"`, exactly where `options` does not name
            it: only a sampler can lower it. `calmkit show` prints it, and a sampler that asks such a head for
            one is refused with that reason.
        events: Kinds of `EventSpec` the head takes; a recipe whose autoencoder gives another is refused.
        needs_memory: True for a head that reads the whole past: the program then calls it with rows
            `[B, L]` unflattened and with `Context.memory`. No backbone of calmkit hands on a memory and
            generation feeds none back, so a recipe that names such a head is refused when it is composed.
        options: Fields of `SampleOptions` it honours. Any other that is set is an error, never ignored.
        guidance: Where the affine combination of several conditions is taken. `condition`: of the hidden
            states, which `calmkit.head_calls` does for it, and which a head that needs a memory can't have.
            `output`: of what its network gives, at every step; `density`: of log densities. The class of
            these two is a `GuidedHead`, and no other is. `none`: guidance is refused. Weight 1 is no guidance
            for any head, bit for bit, and needs no such fact.
        half_precision: True where loss, draws and density hold in bfloat16 too, both under autocast and with
            weights of half precision. Otherwise the head is called outside autocast, with everything in
            float32, and weights of half precision are refused (`calmkit.head_calls`).

    Raises:
        ValueError: For a value that is none of these, or two that contradict each other.
    """

    sampling: Sampling
    temperature: Temperature = "none"
    events: frozenset[str] = frozenset({"continuous"})
    needs_memory: bool = False
    options: frozenset[str] = frozenset()
    half_precision: bool = False
    guidance: GuidancePlace = "none"

    def __post_init__(self) -> None:
        one_of = (("sampling", Sampling), ("temperature", Temperature), ("guidance", GuidancePlace))
        for name, words in ((name, get_args(kind)) for name, kind in one_of):
            self._require(getattr(self, name) in words, name, f"one of {', '.join(words)}")
        known = (("events", EVENT_KINDS), ("options", tuple(field.name for field in fields(SampleOptions))))
        for name, words in known:
            value, wanted = getattr(self, name), f"a frozenset of {', '.join(words)}"
            self._require(isinstance(value, frozenset) and value <= set(words), name, wanted)
        self._require(bool(self.events), "events", f"at least one of {', '.join(EVENT_KINDS)}")
        for name in ("needs_memory", "half_precision"):
            self._require(isinstance(getattr(self, name), bool), name, "True or False")
        named = "temperature" in self.options
        wanted = "scale, noise or logits where options name 'temperature', and none elsewhere"
        self._require(named == (self.temperature != "none"), "temperature", wanted)
        mixes = self.needs_memory and self.guidance == "condition"
        self._require(not mixes, "guidance", "none, output or density where needs_memory is true")
        steps = self.options & {"num_steps", "solver"}
        wanted = f"iterative where options name {' and '.join(sorted(steps))}"
        self._require(not steps or self.sampling == "iterative", "sampling", wanted)

    def _require(self, holds: bool, name: str, wanted: str) -> None:
        if not holds:
            raise ValueError(f"HeadInfo: {name} is {getattr(self, name)!r}; it must be {wanted}.")

    def accept(self, options: SampleOptions | None) -> SampleOptions:
        """The options, or the defaults for None.

        Raises:
            ValueError: If a field is set that the head does not honour, or the temperature is not positive.
        """
        options = options or SampleOptions()
        unknown = sorted(options.set_fields() - self.options)
        if unknown:
            takes = ", ".join(sorted(self.options)) or "none"
            raise ValueError(f"This head does not honour the sample options {unknown}; it takes: {takes}.")
        if options.temperature is not None and options.temperature <= 0:
            raise ValueError(f"A temperature must be above 0, got {options.temperature}.")
        return options


class GenerativeHead(nn.Module, ABC):
    """A conditional distribution over the value of a unit.

    The constructor is `(hidden_dim, event, *, ...)`; what follows the star is settable in a recipe. Draws
    come from torch's default generator, which callers fork and seed; a head that lists `generator` in
    `info.options` also honours that one. The program calls a head through `calmkit.head_calls`, in the
    precision that `info` allows, and never with zero units.

    Attributes:
        info: Facts about the class, stated on the class. An instance may narrow its own where a setting takes
            an option away; whoever has built the head goes by those.
    """

    info: ClassVar[HeadInfo]

    @abstractmethod
    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """One value per unit, `[*]`, not reduced; the same meaning in train and eval mode."""

    @abstractmethod
    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Shaped[Tensor, "num *units_and_event"]:
        """`num` independent draws per unit: `[num, *, *E]`."""


class TakesDraws(ABC):  # noqa: B024  a mark, which promises no other method
    """A capability of heads: `loss` takes targets that are known by draws, `Posterior.values`, all at once.

    It asks such a target for `sample`, or reads its `values` and `weights`; a head that is none of this gets
    a point for each unit, one of the draws.
    """


class DensityHead(GenerativeHead):
    """A head that knows its density."""

    @abstractmethod
    def log_prob(self, context: Context, z: Shaped[Tensor, "*units_and_event"]) -> Float[Tensor, "*units"]:
        """Exact log density (or log probability of ids) of values `[*, *E]`, nats per unit, `[*]`."""


class StartsFromData(GenerativeHead):
    """A head whose fresh weights come from what it shall predict.

    The program calls `start` once, before the first step of a training that begins from fresh weights.
    """

    @property
    @abstractmethod
    def units_wanted(self) -> int:
        """How many units of the training split it would like to see; it may get fewer, and at least one."""

    @abstractmethod
    def start(self, target: Posterior) -> None:
        """Set the weights from the targets `[N, *E]` of units of the training split, in the order in which
        they are read. What is random comes from torch's default generator.
        """


class PlacewiseHead(DensityHead):
    """A head over the ids of a unit, each place given those before it: it also knows how likely the beginning
    of a unit is, whatever follows.
    """

    @abstractmethod
    def place_log_probs(self, context: Context, z: Shaped[Tensor, "*units K"]) -> Float[Tensor, "*units K V"]:
        """Log probability of every id at every place, given the ids of `z` before it, nats.

        Those of the ids of `z` sum to `log_prob` over the places.
        """


class IterativeHead(GenerativeHead):
    """A head whose draw costs several network calls (`info.sampling` is `"iterative"`)."""

    @abstractmethod
    def network_calls(self, options: SampleOptions | None = None) -> int | None:
        """Network calls per draw; None where an adaptive solver decides."""


class ScheduledHead(GenerativeHead):
    """A head whose loss depends on how far its training is.

    It is built at the end of that way, at fraction 1, where its loss is what it is measured by. Training
    tells it the fraction before every loss (`calmkit.head_calls.tell_progress`), a validation tells it 1, so
    held-out losses on the way can be compared with each other and with other runs.
    """

    @abstractmethod
    def at_progress(self, fraction: float) -> None:
        """From now on the loss is that of a training of which this fraction is done.

        A pure function of it: what was told before leaves no trace, or a run that goes on would end
        elsewhere. Neither the fraction nor anything made of it is in the `state_dict`. Every parameter that
        is trained has a gradient at every fraction, be it zero.

        Args:
            fraction: In [0, 1]: steps taken, over all steps of the stage.
        """


class GuidedHead(GenerativeHead):
    """A head that combines several conditions itself (`info.guidance` is `"output"` or `"density"`)."""

    @abstractmethod
    def sample_guided(
        self, guided: Guided, num: int = 1, options: SampleOptions | None = None
    ) -> Shaped[Tensor, "num *units_and_event"]:
        """`num` independent draws per unit under an affine combination of conditions.

        The program calls it with two terms or more, none of weight 0; one term of weight 1 is `sample`. Terms
        of one and the same condition are no guidance, whatever their weights: the law is that of `sample`. A
        head that must treat one term apart, such as for a variance that it does not combine, takes the first.

        Raises:
            ValueError: Where the combination is no distribution, naming the weight that would do.
        """


class WeightedHead(GenerativeHead):
    """A head whose draw is a pick among M values, by weights that it knows: of components, or of codes.

    Whoever has the weights can change them, as by a power, at the price of one call. What an option does to
    a draw it does here too: a temperature acts on the values or on the weights, as `info.temperature` says.
    """

    @abstractmethod
    def weighted_draws(
        self, context: Context, options: SampleOptions | None = None
    ) -> tuple[Float[Tensor, "*units M"], Shaped[Tensor, "M *units_and_event"]]:
        """Log weights `[*, M]`, whose exponentials sum to 1, and values `[M, *, *E]`.

        For each unit, picking value m with probability exp(log weight m) is one draw of `sample`; other
        randomness, such as the place within a component, is drawn afresh at every call. Within a call the
        values of a unit may depend on each other, so several picks are no independent draws, and the order of
        the M means the same from call to call. Log weights are float32 or wider.
        """
