"""What models of series are judged by while they are trained and when they are evaluated.

Source: teacher forcing: Williams and Zipser, 1989. https://doi.org/10.1162/neco.1989.1.2.270
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from calmkit.interfaces import Autoencoder, Backbone, Batch, DensityHead, HeldOut, Scores
from calmkit.metrics.held_out import held_out
from calmkit.metrics.unit_means import UnitMeans
from calmkit.model import CalmModel
from calmkit_series.measures import crps
from calmkit_series.prepare import width_of


@final
class SeriesScores(Scores):
    """CRPS of every value given the units before, and nats of a head that knows its density.

    Args:
        model: That will be measured; only what it is made of matters here.
        draws: Per unit.
    """

    def __init__(self, model: CalmModel, draws: int) -> None:
        super().__init__()
        self.draws, self.width = draws, width_of(model.autoencoder)
        self.dense = isinstance(model.head, DensityHead) and isinstance(model.backbone, Backbone)
        self.means = UnitMeans("crps", *(["nats_per_value"] if self.dense else []))

    @torch.no_grad()
    def update(self, measured: CalmModel, batch: Batch) -> None:
        """Add the predicted units of a batch."""
        seed = int(torch.randint(2**31, ()))
        held = held_out(measured, batch, num_draws=self.draws, seed=seed)
        if held is None:
            return
        values = [crps(held.drawn_data(), held.data)]
        if self.dense:
            values.append(self._nats(measured, batch, held))
        self.means.update(held, *values)

    def compute(self) -> Mapping[str, Tensor]:
        """Each mean with its standard error and its interval, as `UnitMeans` gives them."""
        return self.means.compute()

    def reset(self) -> None:
        """Forget all; `table` stays."""
        self.means.reset()

    def table(self) -> tuple[Sequence[str], Tensor] | None:
        """Sums by series."""
        found = self.means.per_group
        return None if found is None else (("recording", *self.means.keys, "units"), found)

    def _nats(self, model: CalmModel, batch: Batch, held: HeldOut) -> Tensor:
        """In the unit of the data: what a transform stretches is taken off."""
        nats = -held.log_prob(held.target.mean)
        if model.transform is not None:
            values = model.autoencoder.encode(batch.data).mean
            nats = nats - model.transform(values)[1][held.keep]
        return nats / self.width


@final
class CodingError(Scores):
    """How far values come back from an autoencoder, on average."""

    def __init__(self) -> None:
        super().__init__()
        self.error = MeanMetric()

    @torch.no_grad()
    def update(self, measured: Autoencoder, batch: Batch) -> None:
        """Add the real units of a batch."""
        back = measured.to_data(measured.encode(batch.data).sample(1)[0])
        self.error.update((back - batch.data)[batch.valid].abs())

    def compute(self) -> Mapping[str, Tensor]:
        """`absolute_error`, in the unit of the data."""
        return {"absolute_error": self.error.compute()}

    def reset(self) -> None:
        """Forget all."""
        self.error.reset()
