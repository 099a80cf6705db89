"""Confidence: all unknown units are drawn in every step, and those draws are kept that are most likely.

A draw is scored by its log density, plus noise that falls to nothing over the generation. The density is
log p(z | condition), also of draws made under guidance or a temperature: what these do to the law of a draw
does not enter its score. The official code scores a guided draw by the guided density, not normalised.

Sources: Chang et al., MaskGIT, 2022, section 3.2. https://arxiv.org/abs/2202.04200 Tschannen et al., GIVT,
2023 (densities as scores). https://arxiv.org/abs/2312.02116 Official code of the latter, for what training
hides and how the noise falls: google-research/big_vision@0127fb6, models/proj/givt, givt.py and
parallel_decode.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Order, OrderStep, Plan
from calmkit.nn.settings import require_at_least
from calmkit.orders.cosine import cosine_counts, steps_of
from calmkit.orders.hide import hide
from calmkit.orders.known import known_at_start


@dataclass(frozen=True)
class ConfidenceState:
    """What has been kept.

    Attributes:
        known: Units that are there.
        counts: How many each step keeps.
        step: Steps that are done.
    """

    known: Bool[Tensor, "B L"]
    counts: tuple[int, ...]
    step: int


@final
class ConfidenceOrder(Order):
    """Training hides cos(pi u / 2) of a row, u ~ U(0, trained_progress), each row its own, and predicts it.

    Args:
        steps: Steps of generation, of which each keeps as many draws as the cosine schedule says; None: one
            per step, with all unknown units drawn in each.
        choice_temperature: Factor on the Gumbel noise that is added to the scores, itself multiplied by
            1 - k / n in step k of n; 0: the most likely draws are kept. It is weighed against log densities,
            whose differences grow with the dimensions of a unit.
        trained_progress: Training sees the first part of a generation: from nothing known to
            1 - cos(pi trained_progress / 2) of a row, 0.55 at 0.7.
    """

    reads = "any"
    needs_density = True

    def __init__(
        self, *, steps: int | None = None, choice_temperature: float = 1.0, trained_progress: float = 0.7
    ) -> None:
        require_at_least("confidence", 1, steps=steps)
        require_at_least("confidence", 0, choice_temperature=choice_temperature)
        if not 0 < trained_progress <= 1:
            raise ValueError(
                f"confidence: trained_progress must be in (0, 1], got {trained_progress}; 0.7 would do."
            )
        self.steps, self.choice_temperature = steps, choice_temperature
        self.trained_progress = trained_progress

    def plan(self, valid: Bool[Tensor, "B L"]) -> Plan:
        """What is hidden is predicted, from what is not."""
        progress = torch.rand(len(valid), dtype=torch.float32, device=valid.device) * self.trained_progress
        return hide(valid, (math.pi / 2 * progress).cos())

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        """`steps`, or one per unit; each draws all that is unknown.

        Raises:
            ValueError: For fewer units than steps, or none.
        """
        counts = cosine_counts(units, steps_of("confidence", self.steps, units))
        return tuple(OrderStep(drawn=sum(counts[i:]), kept=count) for i, count in enumerate(counts))

    def start(
        self, rows: int, units: int, *, known: Bool[Tensor, "B L"] | None = None, device: torch.device
    ) -> ConfidenceState:
        """Nothing kept yet.

        Raises:
            ValueError: Where rows know different numbers of units, or so many that there are fewer unknown
                ones than steps.
        """
        there, unknown = known_at_start("confidence", rows, units, known, device)
        return ConfidenceState(there, tuple(step.kept for step in self.schedule(unknown)), 0)

    def query(self, state: ConfidenceState) -> Int[Tensor, "B m"]:
        """All unknown units, from left to right."""
        unknown = sum(state.counts[state.step :])
        return state.known.to(torch.uint8).argsort(dim=1, stable=True)[:, :unknown]

    def commit(
        self, state: ConfidenceState, query: Int[Tensor, "B m"], score: Float[Tensor, "B m"] | None = None
    ) -> tuple[Bool[Tensor, "B m"], ConfidenceState]:
        """The draws of the best scores, noise included.

        Raises:
            ValueError: Without scores.
        """
        if score is None:
            raise ValueError("confidence: draws have no score; the log density of each would do.")
        temperature = self.choice_temperature * (1 - (state.step + 1) / len(state.counts))
        if temperature > 0:
            score = score - temperature * torch.empty_like(score).exponential_().log()  # + Gumbel noise
        best = score.topk(state.counts[state.step], 1).indices
        keep = torch.zeros_like(query, dtype=torch.bool).scatter(1, best, True)
        known = state.known.scatter(1, query.gather(1, best), True)
        return keep, ConfidenceState(known, state.counts, state.step + 1)


@hookimpl
def calmkit_orders() -> dict[str, type[Order]]:
    """Register this part."""
    return {"confidence": ConfidenceOrder}
