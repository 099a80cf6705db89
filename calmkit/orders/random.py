"""Random: each row in its own random order, more units per step the more is known.

With one unit per step a row is drawn from the mean, over all orders, of the products of conditions that the
model gives along each.

Source: Li et al., MAR, 2024, section 3.3. https://arxiv.org/abs/2406.11838 Official code:
LTH14/mar@fe470ac, models/mar.py.
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Order, OrderStep, Plan
from calmkit.nn.settings import require_at_least
from calmkit.orders.cosine import cosine_counts, steps_of
from calmkit.orders.hide import hide
from calmkit.orders.known import known_at_start
from calmkit.orders.walk import Walk

RATIO_MEAN = 1.0  # mask_ratio_generator of the official code


@final
class RandomOrder(Order):
    """Training hides a share of a row, ratio ~ N(1, spread^2) cut to [least_hidden, 1], and predicts it.

    Every row draws its own ratio. MAR draws one per batch, because its encoder leaves hidden units out and
    needs as many left in every row; a ratio per row shows more of them in one step, with the same expectation
    for each row.

    Args:
        steps: Steps of generation, with as many units in each as the cosine schedule says; None: one unit
            per step.
        least_hidden: Smallest ratio. Training never sees more than the share 1 - least_hidden of a row known,
            and generation does: a short row wants a smaller one. The official code's 0.7 is for 256 units.
        spread: Of the ratio. A larger one shows more rows of which much is known, as the last steps of a
            generation do; at 1 and above the ratio is nearly uniform.
    """

    reads = "any"

    def __init__(
        self,
        *,
        steps: int | None = None,
        least_hidden: float = 0.7,
        spread: float = 0.25,  # the official code
    ) -> None:
        require_at_least("random", 1, steps=steps)
        if not 0 < least_hidden <= 1:
            raise ValueError(f"random: least_hidden must be in (0, 1], got {least_hidden}; 0.7 would do.")
        if not 0 < spread < math.inf:
            raise ValueError(f"random: spread must be above 0 and finite, got {spread}; 0.25 would do.")
        self.steps, self.least_hidden, self.spread = steps, least_hidden, spread

    def plan(self, valid: Bool[Tensor, "B L"]) -> Plan:
        """What is hidden is predicted, from what is not."""
        ratio = torch.empty(len(valid), dtype=torch.float32, device=valid.device)
        nn.init.trunc_normal_(ratio, RATIO_MEAN, self.spread, self.least_hidden, 1.0)
        return hide(valid, ratio)

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        """`steps`, or one per unit; what is drawn is kept.

        Raises:
            ValueError: For fewer units than steps, or none.
        """
        counts = cosine_counts(units, steps_of("random", self.steps, units))
        return tuple(OrderStep(drawn=count, kept=count) for count in counts)

    def start(
        self, rows: int, units: int, *, known: Bool[Tensor, "B L"] | None = None, device: torch.device
    ) -> Walk:
        """A random order of the unknown units of each row.

        Raises:
            ValueError: Where rows know different numbers of units, or so many that there are fewer unknown
                ones than steps.
        """
        there, unknown = known_at_start("random", rows, units, known, device)
        counts = tuple(step.kept for step in self.schedule(unknown))
        # float32 whatever torch's default: one seed, one order
        noise = torch.rand(rows, units, dtype=torch.float32, device=device).masked_fill(there, 2.0)
        return Walk(noise.argsort(1)[:, :unknown], counts)

    def query(self, state: Walk) -> Int[Tensor, "B m"]:
        """The units of this step."""
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
    return {"random": RandomOrder}
