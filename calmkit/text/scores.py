"""What models of text are judged by while they are trained and when they are evaluated.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, sections 2 and 4. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from calmkit.interfaces import Autoencoder, Batch, Scores
from calmkit.model import CalmModel
from calmkit.text.metrics.brier import BrierLM
from calmkit.text.metrics.described import COLUMNS
from calmkit.text.metrics.likelihood import Likelihood, likelihood_kind, unit_nats
from calmkit.text.metrics.reconstruction import ReconstructionAccuracy, reconstruct
from calmkit.text.metrics.rollout import brier_draws, eligible_units
from calmkit.text.units import chunk_size_of


@final
class Reconstruction(Scores):
    """Tokens and chunks that come back from a posterior draw."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy = ReconstructionAccuracy()

    def update(self, measured: Autoencoder, batch: Batch) -> None:
        """Add the real units of a batch."""
        drawn, from_mean = reconstruct(measured, batch.data, batch.valid)
        self.accuracy.update(batch.data, drawn, from_mean, batch.valid)

    def compute(self) -> Mapping[str, Tensor]:
        """See `ReconstructionAccuracy`."""
        return self.accuracy.compute()

    def reset(self) -> None:
        """Forget all."""
        self.accuracy.reset()


@final
class TextScores(Scores):
    """BrierLM, and the likelihood of a head that knows it.

    Args:
        model: That will be measured; only what it is made of matters here.
        draws: Per position.
    """

    def __init__(self, model: CalmModel, draws: int) -> None:
        super().__init__()
        self.draws = draws
        self.brier = BrierLM()
        kind = likelihood_kind(model)
        self.likelihood = None if kind is None else Likelihood(kind, chunk_size_of(model))

    def update(self, measured: CalmModel, batch: Batch) -> None:
        """Add the predicted units of a batch."""
        model, chunks, valid = measured, batch.data, batch.valid
        accuracy, collision, rows = brier_draws(model, chunks, valid, self.draws)
        if self.likelihood is not None:
            self.likelihood.update(*unit_nats(model, chunks, valid, self.likelihood.kind, self.draws))
        documents = None
        if batch.group is not None:
            documents = batch.group[eligible_units(model.predict(valid), chunk_size_of(model))]
        self.brier.update(accuracy, collision, rows, documents)

    def compute(self) -> Mapping[str, Tensor]:
        """What `BrierLM.compute` and `Likelihood.compute` give."""
        known = {} if self.likelihood is None else self.likelihood.compute()
        return {**self.brier.compute(), **known}

    def reset(self) -> None:
        """Forget all."""
        self.brier.reset()
        if self.likelihood is not None:
            self.likelihood.reset()

    def table(self) -> tuple[Sequence[str], Tensor] | None:
        """What each document gave to BrierLM."""
        found = self.brier.per_document
        return None if found is None else (COLUMNS, found)
