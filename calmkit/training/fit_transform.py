"""fit_transform: the transforms of a model see the training split once, before stage 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor

from calmkit.generation import SeededRandomness
from calmkit.model import CalmModel

ROWS_SEEN = 4096
"""Most rows of the training split that transforms are fitted to."""


def fit_transform(model: CalmModel, data: Any, seed: int) -> None:
    """Fit the transforms of a model to draws of its autoencoder's posteriors of real units.

    torch's generators stay as they were, and every process sees the same rows. Where no transform asks for
    rows, none are read.

    Args:
        model: On any device; its transform changes.
        data: Its training rows are read.
        seed: Of the draws.
    """
    assert model.transform is not None
    device = next(model.parameters()).device
    with torch.no_grad(), SeededRandomness(seed, device).borrowed():
        model.transform.fit(_Once(lambda: _drawn(model, data, device)))


@final
class _Once:
    """Batches that are made when they are first asked for, and kept: the same ones for every transform."""

    def __init__(self, make: Callable[[], Iterator[Tensor]]) -> None:
        self.make, self.kept = make, list[Tensor]()

    def __iter__(self) -> Iterator[Tensor]:
        if not self.kept:
            self.kept = list(self.make())
        return iter(self.kept)


def _drawn(model: CalmModel, data: Any, device: torch.device) -> Iterator[Tensor]:
    seen = 0
    for batch in data.first_epoch():
        if seen >= ROWS_SEEN:
            return
        z = model.autoencoder.encode(batch.data.to(device)).sample(1)[0]
        if model.autoencoder.layout is None:  # a row may have units that are not real
            z = z[batch.valid.to(device)].unsqueeze(0)
        yield z
        seen += len(batch)
