"""data: the head's own loss on the data, what stage 2 does unless a recipe says otherwise.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 3. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import Any, final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Batch, Objective, UnitLoss


@final
class DataObjective(Objective):
    """The loss of the head on the units of the data."""

    def loss(self, model: Any, batch: Batch) -> UnitLoss:
        """`CalmModel.loss`, nothing else."""
        return model.loss(batch)


@hookimpl
def calmkit_objectives() -> dict[str, type[Objective]]:
    """The parts of this module."""
    return {"data": DataObjective}
