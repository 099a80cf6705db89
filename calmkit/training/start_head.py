"""start_head: a head that begins from data sees the training split once, before stage 2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from calmkit.generation import SeededRandomness
from calmkit.interfaces import Posterior, StartsFromData
from calmkit.model import CalmModel


def start_head(model: CalmModel, data: Any, seed: int) -> None:
    """Set the fresh weights of a head that begins from data (`StartsFromData`); leave every other head alone.

    torch's generators stay as they were, and every process sees the same units.

    Args:
        model: On any device; its head changes.
        data: Its training rows are read, as many as the head wants units.
        seed: Of what is random.
    """
    head = model.head
    if not isinstance(head, StartsFromData):
        return
    device = next(model.parameters()).device
    with torch.no_grad(), SeededRandomness(seed, device).borrowed():
        seen = list(_targets(model, data, head.units_wanted, device))
        spreads = [target.log_std for target in seen]
        log_std = torch.cat([one for one in spreads if one is not None]) if spreads[0] is not None else None
        head.start(Posterior(torch.cat([target.mean for target in seen]), log_std)[: head.units_wanted])


def _targets(model: CalmModel, data: Any, wanted: int, device: torch.device) -> Iterator[Posterior]:
    seen = 0
    for batch in data.first_epoch():
        on_device = batch.to(device)
        target, _, _ = model.target(on_device.data)
        keep: Tensor = model.counted(on_device)
        yield target[keep]
        seen += int(keep.sum())
        if seen >= wanted:
            return
