"""OwnNumbers: what an objective measures on held-out units, beside the scores of the kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn
from torchmetrics import MeanMetric

from calmkit.interfaces import Batch, Objective


@final
class OwnNumbers(nn.Module):
    """Means over units and processes of what `Objective.measured` gives.

    Args:
        names: Of the numbers.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.means = nn.ModuleList(MeanMetric() for _ in names)  # so that they move with the module

    def update(self, objective: Objective, model: Any, batch: Batch) -> None:
        """Add a batch; randomness is torch's default generator."""
        found = objective.measured(model, batch)
        for name, mean in self._by_name().items():
            if name in found:
                mean.update(found[name])

    def compute(self) -> dict[str, Tensor]:
        """Name -> mean."""
        return {name: mean.compute() for name, mean in self._by_name().items()}

    def reset(self) -> None:
        """Forget all batches."""
        for mean in self._by_name().values():
            mean.reset()

    def _by_name(self) -> dict[str, MeanMetric]:
        found = zip(self.names, self.means, strict=True)
        return {name: mean for name, mean in found if isinstance(mean, MeanMetric)}
