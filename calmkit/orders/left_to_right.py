"""Left to right: each unit from all those before it, one per step. The order of a causal backbone.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Order, OrderStep, Plan
from calmkit.orders.cosine import steps_of
from calmkit.orders.known import known_at_start
from calmkit.orders.walk import Walk


@final
class LeftToRight(Order):
    """Unit after unit; training predicts them all at once, since a causal backbone reads backwards only."""

    reads = "causal"

    def plan(self, valid: Bool[Tensor, "B L"]) -> Plan:
        """All real units are known to those after them, and all are predicted."""
        return Plan(known=valid, predict=valid)

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        """One unit each.

        Raises:
            ValueError: For no unit.
        """
        return (OrderStep(drawn=1, kept=1),) * steps_of("left_to_right", None, units)

    def start(
        self, rows: int, units: int, *, known: Bool[Tensor, "B L"] | None = None, device: torch.device
    ) -> Walk:
        """The units behind those that are known.

        Raises:
            ValueError: Where a unit is known behind one that is not, which a causal backbone would not read;
                where rows know different numbers of units, or all.
        """
        there, unknown = known_at_start("left_to_right", rows, units, known, device)
        if bool((there[:, 1:] & ~there[:, :-1]).any()):
            raise ValueError(
                "left_to_right: a unit is known behind one that is not, and would not be read; order random "
                "with an any-order backbone would do."
            )
        steps = self.num_steps(unknown)
        behind = torch.arange(units - unknown, units, device=device)
        return Walk(behind.expand(rows, -1), (1,) * steps)

    def query(self, state: Walk) -> Int[Tensor, "B m"]:
        """The next unit of each row."""
        return state.now()

    def commit(
        self, state: Walk, query: Int[Tensor, "B m"], score: Float[Tensor, "B m"] | None = None
    ) -> tuple[Bool[Tensor, "B m"], Walk]:
        """Every draw is kept."""
        del score
        return torch.ones_like(query, dtype=torch.bool), state.onward()


@hookimpl
def calmkit_orders() -> dict[str, type[Order]]:
    """Register this part."""
    return {"left_to_right": LeftToRight}
