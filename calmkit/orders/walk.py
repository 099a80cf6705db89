"""Walk: the state of an order that is settled before the first step, and the part of it that is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Int
from torch import Tensor


@final
@dataclass(frozen=True)
class Walk:
    """Units in the order in which they are drawn.

    Attributes:
        units: All that were not known at the start, each row in its own order.
        counts: How many each step draws.
        step: Steps that are done.
    """

    units: Int[Tensor, "B U"]
    counts: tuple[int, ...]
    step: int = 0

    def now(self) -> Int[Tensor, "B m"]:
        """The units of this step."""
        done = sum(self.counts[: self.step])
        return self.units[:, done : done + self.counts[self.step]]

    def onward(self) -> Walk:
        """The state behind this step."""
        return Walk(self.units, self.counts, self.step + 1)
