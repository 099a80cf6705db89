"""How often the parts of a model are called for one row, as `calmkit.rows` draws it or unit by unit.

A causal backbone reads each unit once, for every row that is kept beside it. One of any order reads the row
anew at every step, and the head draws whatever the order asks for, which may be more than is kept.

Sources: Li et al., MAR, 2024, section 3.3. https://arxiv.org/abs/2406.11838 Chang et al., MaskGIT, 2022,
section 3.2 (all that is unknown is drawn in every step). https://arxiv.org/abs/2202.04200
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from calmkit.interfaces import AnyOrderBackbone, OrderStep, RowSampler
from calmkit.model import CalmModel


@final
@dataclass(frozen=True)
class RowCalls:
    """Calls for one row.

    Attributes:
        embedded: Units that the embedder makes.
        read: Units that a causal backbone reads, or whole rows that one of any order does.
        contexts: Conditions of units that the head draws for.
        fan: Draws for each of them.
        terms: Times that the network of the head is run for each of them: twice where guidance is taken in
            what it gives.
        scored: Draws whose log density is asked for.
    """

    embedded: int
    read: int
    contexts: int
    fan: int = 1
    terms: int = 1
    scored: int = 0

    @property
    def draws(self) -> int:
        """Draws of the head, in all."""
        return self.contexts * self.fan


def row_calls(model: CalmModel, units: int, sampler: RowSampler | None = None) -> RowCalls:
    """Calls for a row of a model.

    Args:
        model: What it is made of.
        units: L.
        sampler: Guides, or keeps rows side by side; None: one draw for each unit asked for, without guidance.
    """
    guided = sampler is not None and sampler.guidance.weight != 1
    conditions = 2 if guided else 1
    terms = conditions if model.head.info.guidance in ("output", "density") else 1
    if isinstance(model.backbone, AnyOrderBackbone):
        one_each = (OrderStep(drawn=1, kept=1),) * units
        schedule = one_each if model.order is None else model.order.schedule(units)
        drawn, steps = sum(step.drawn for step in schedule), len(schedule)
        scored = drawn if model.order is not None and model.order.needs_density else 0
        return RowCalls(steps * units, conditions * steps, drawn, terms=terms, scored=scored)
    if sampler is None or sampler.beams == sampler.fan == 1:
        return RowCalls(conditions * units, conditions * units, units, terms=terms)
    kept = _beams_kept(units, sampler.beams, sampler.fan)
    return RowCalls(kept, kept, kept, sampler.fan, scored=kept * sampler.fan)


def _beams_kept(units: int, beams: int, fan: int) -> int:
    """Rows that stand side by side, summed over the units of a row; one before the first."""
    width, total = 1, 0
    for _ in range(units):
        total += width
        width = min(beams, fan * width)
    return total
