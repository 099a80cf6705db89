"""Order: which units are known when a unit is predicted, in training and in generation.

Training asks `plan`. Generation asks `start` once, then `query` and `commit` in turn until all units are
known: `query` names the units to be drawn now, `commit` says which of those draws are kept.

Sources: Li et al., MAR, 2024, section 3.3 (random order). https://arxiv.org/abs/2406.11838 Chang et al.,
MaskGIT, 2022, section 3.2 (confidence). https://arxiv.org/abs/2202.04200
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Reads = Literal["causal", "any"]
"""Which backbones an order goes with: `Backbone` (causal) or `AnyOrderBackbone`."""

OrderState = Any
"""What an order carries between `query` and `commit`: a value."""


@final
@dataclass(frozen=True)
class Plan:
    """What training hides and predicts, both `[B, L]` bool.

    Attributes:
        known: Units that may be read. A causal backbone reads the units before each, and not this.
        predict: Units that count in the loss.
    """

    known: Bool[Tensor, "B L"]
    predict: Bool[Tensor, "B L"]


@final
@dataclass(frozen=True)
class OrderStep:
    """What a step of generation does in every row.

    Attributes:
        drawn: Units that `query` names, m.
        kept: Of these draws, those that `commit` keeps.
    """

    drawn: int
    kept: int


class Order(ABC):
    """An order of units. The constructor is `(*, ...)`, all of it settable in a recipe.

    Attributes:
        reads: On the class: the backbones it goes with.
        needs_density: On the class: True where `commit` wants the log density of each draw as its score; only
            a `DensityHead` will do.
    """

    reads: ClassVar[Reads]
    needs_density: ClassVar[bool] = False

    @abstractmethod
    def plan(self, valid: Bool[Tensor, "B L"]) -> Plan:
        """What a step of training hides and predicts; its randomness is torch's default generator."""

    @abstractmethod
    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        """The steps of a generation of so many units; together they keep `units`. Guidance that moves and the
        cost of a row go by it, before anything is drawn.

        Raises:
            ValueError: For more steps than there are units, or none.
        """

    def num_steps(self, units: int) -> int:
        """Steps of generation for rows of so many units.

        Raises:
            ValueError: As `schedule`.
        """
        return len(self.schedule(units))

    @abstractmethod
    def start(
        self, rows: int, units: int, *, known: Bool[Tensor, "B L"] | None = None, device: torch.device
    ) -> OrderState:
        """The state before the first step; `known` units are there already (None: none is)."""

    @abstractmethod
    def query(self, state: OrderState) -> Int[Tensor, "B m"]:
        """Units to be drawn now, m of each row, at least one; all differ and none is known yet."""

    @abstractmethod
    def commit(
        self, state: OrderState, query: Int[Tensor, "B m"], score: Float[Tensor, "B m"] | None = None
    ) -> tuple[Bool[Tensor, "B m"], OrderState]:
        """Which of the draws are kept, as many in every row, at least one; what is not kept is drawn again.

        Args:
            state: From `start` or the last `commit`.
            query: What `query` gave.
            score: Log density of each draw, nats, where `needs_density`.
        """
