"""Backbone: from the units so far to the condition of the next one.

The one alignment of the whole package is stated here: `context.h[:, i]` conditions unit i. No other file
shifts by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calmkit.interfaces.past import Past

State = Any
"""What a backbone carries between steps: a value. Storage may be reused along one line of steps only;
stepping an older state again is safe, or an error, never a silent mix."""


@final
@dataclass(frozen=True)
class Context:
    """The condition of units.

    Attributes:
        h: `[*, H]`, one hidden state per unit to be predicted.
        memory: `[B, P, H]`, the whole past, only for heads whose `info.needs_memory` is true.
        visible: `[B, *, P]` bool, which of the memory each unit may read.
        past: The data before each unit, only for an autoencoder whose decoder reads them; heads do not.
    """

    h: Float[Tensor, "*units H"]
    memory: Float[Tensor, "B P H"] | None = None
    visible: Bool[Tensor, "B *queries P"] | None = None
    past: Past | None = None

    def __getitem__(self, index: Tensor | slice | int | tuple[slice | int, ...]) -> Context:
        """Pick conditions along the leading dimensions of `h`.

        Raises:
            ValueError: Where a memory hangs on the unflattened shape.
        """
        if self.memory is not None:
            raise ValueError("A context with a memory is not indexed: its head gets [B, L] unflattened.")
        return Context(self.h[index], past=None if self.past is None else self.past[index])

    def behind(self, past: Past | None) -> Context:
        """The same conditions, with what stands before each unit."""
        return replace(self, past=past)


class Backbone(nn.Module, ABC):
    """A causal sequence model over units.

    CONTRACT: `h[:, i]` conditions unit i and depends on valid units before i only. Where no valid unit comes
    before i it is a learned start vector that no unit ever reads, so filling on the left with invalid units
    changes nothing.

    The constructor is `(*, hidden_dim, ...)`. It is never asked for zero rows or zero units, and may be
    called under bfloat16 autocast.

    Attributes:
        hidden_dim: H; embedder and head are built for it.
    """

    hidden_dim: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "B L H"], valid: Bool[Tensor, "B L"]) -> Context:
        """Embedded units `[B, L, H]` and `valid` `[B, L]` -> conditions `[B, L, H]` of the same units."""

    @abstractmethod
    def start(self, batch: int, max_units: int) -> tuple[Context, State]:
        """The condition of unit 0, `[batch, 1, H]`, and a state with room for `max_units` units."""

    @abstractmethod
    def step(
        self, x: Float[Tensor, "B n H"], valid: Bool[Tensor, "B n"], state: State
    ) -> tuple[Context, State]:
        """Read n more units, `x` `[B, n, H]`, `valid` `[B, n]`.

        Returns:
            Conditions `[B, n, H]`, where `h[:, j]` conditions the unit AFTER `x[:, j]`, and the new state.
            The law: `forward(x, valid).h == cat([start.h, step(x[:, :-1]).h], 1)`.
        """

    @abstractmethod
    def select(self, state: State, rows: Int[Tensor, " R"]) -> State:
        """The state of rows `rows` `[R]`, repeated or left out at will: beams, finished rows, roll-outs."""

    @abstractmethod
    def states(self, x: Float[Tensor, "B L H"], valid: Bool[Tensor, "B L"]) -> State:
        """One branch per (row, unit), `B * L` rows in row-major order, from `x` `[B, L, H]`.

        Branch (b, i) has read the units before i, so stepping it with some unit i gives the condition of
        unit i + 1. The prefix may be shared between branches. BrierLM rolls all positions out at once with
        it.
        """


class AnyOrderBackbone(nn.Module, ABC):
    """A sequence model over units that are known in any order.

    CONTRACT: `h[:, i]` conditions unit i and depends on the known units, on the prefix and on its own
    position: never on what `x` holds where `known` is false, and never on unit i itself where it is hidden.
    Prefix and positions are always there, so with nothing known every `h[:, i]` is still a condition.

    The constructor is `(layout, *, hidden_dim, ...)`: `layout` is the grid of a row's units, such as
    `(8, 8)`, whose product is L. It is never asked for zero rows, and may be called under bfloat16 autocast.

    Attributes:
        hidden_dim: H; embedder, conditioner and head are built for it.

    Source: Li et al., MAR, 2024, section 3.3 and Figure 4. https://arxiv.org/abs/2406.11838
    """

    sizes: ClassVar[tuple[str, ...]] = ("layout",)
    hidden_dim: int

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "B L H"],
        known: Bool[Tensor, "B L"],
        prefix: Float[Tensor, "B P H"] | None = None,
    ) -> Context:
        """Embedded units, of which `known` may be read -> conditions `[B, L, H]` of all units."""
