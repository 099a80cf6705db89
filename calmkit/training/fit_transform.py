"""fit_transform: the transforms of a model see the training split once, before stage 2."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
import torch
from torch import Tensor

from calmkit.generation import SeededRandomness
from calmkit.model import CalmModel

ROWS_SEEN = 4096
"""Most rows of the training split that transforms are fitted to."""


def fit_transform(model: CalmModel, data: pl.LightningDataModule, seed: int) -> None:
    """Fit the transforms of a model to draws of its autoencoder's posteriors; torch's generators stay as they
    were, and every process sees the same rows.

    Args:
        model: On any device; its transform changes.
        data: Its training rows are read.
        seed: Of the draws.
    """
    assert model.transform is not None
    device = next(model.parameters()).device
    with torch.no_grad(), SeededRandomness(seed, device).borrowed():
        model.transform.fit(list(_drawn(model, data, device)))


def _drawn(model: CalmModel, data: pl.LightningDataModule, device: torch.device) -> Iterator[Tensor]:
    seen = 0
    for batch in data.train_dataloader():
        if seen >= ROWS_SEEN:
            return
        yield model.autoencoder.encode(batch.data.to(device)).sample(1)[0]
        seen += len(batch)
