"""GenerativeHead: p(z | context), known by a loss and by draws.

A head is either final or one of three promises: `GenerativeHead`; `DensityHead`, which also knows its exact
density; `IterativeHead`, which calls its network several times per draw. Callers ask `isinstance`, never
`hasattr`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, final

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


@final
@dataclass(frozen=True)
class HeadInfo:
    """Facts about a head, checked when a recipe is composed.

    Attributes:
        sampling: How a draw is made: one network call, several (`IterativeHead`), or one per token.
        temperature: What `SampleOptions.temperature` acts on; `"none"`: only a Sampler can lower it.
        events: Kinds of `EventSpec` the head takes.
        needs_memory: True for a head that reads the whole past; it gets `[B, L]` unflattened.
        options: Fields of `SampleOptions` it honours. Any other that is set is an error, never ignored.
        half_precision: True where loss and draws hold in bfloat16 too.
    """

    sampling: Literal["one_step", "iterative", "autoregressive"]
    temperature: Literal["none", "scale", "noise", "logits"] = "none"
    events: frozenset[str] = frozenset({"continuous"})
    needs_memory: bool = False
    options: frozenset[str] = frozenset()
    half_precision: bool = False

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
    `info.options` also honours that one.

    Attributes:
        info: Facts about the class.
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


class DensityHead(GenerativeHead):
    """A head that knows its density."""

    @abstractmethod
    def log_prob(self, context: Context, z: Shaped[Tensor, "*units_and_event"]) -> Float[Tensor, "*units"]:
        """Exact log density (or log probability of ids) of values `[*, *E]`, nats per unit, `[*]`."""


class IterativeHead(GenerativeHead):
    """A head whose draw costs several network calls (`info.sampling` is `"iterative"`)."""

    @abstractmethod
    def network_calls(self, options: SampleOptions | None = None) -> int | None:
        """Network calls per draw; None where an adaptive solver decides."""
