"""Made-up data of the right shape, for what is measured or timed before there are any."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from calmkit.interfaces import Autoencoder, Batch, UnitwiseAutoencoder


def made_up_data(autoencoder: Autoencoder, rows: int, units: int, device: torch.device | str) -> Tensor:
    """Data as an autoencoder reads them: ids of 0, zeros, or what it makes of latents around 0.

    Args:
        autoencoder: Says what its data look like.
        rows: B.
        units: L, where rows have no length of their own.
        device: Of the data and of the autoencoder.
    """
    if isinstance(autoencoder, UnitwiseAutoencoder):
        dtype = torch.long if autoencoder.discrete else torch.get_default_dtype()
        return torch.zeros(rows, units, *autoencoder.unit_shape, dtype=dtype, device=device)
    length = units if autoencoder.layout is None else math.prod(autoencoder.layout)
    dtype = next((p.dtype for p in autoencoder.parameters()), torch.get_default_dtype())
    with torch.no_grad():
        return autoencoder.to_data(
            torch.zeros(rows, length, *autoencoder.event.shape, dtype=dtype, device=device)
        )


def made_up_batch(
    autoencoder: Autoencoder, rows: int, units: int, device: torch.device | str, conditions: Iterable[str]
) -> Batch:
    """A batch of such data; every condition is 0.

    Args:
        autoencoder: As above.
        rows: B.
        units: L of the model's units.
        device: As above.
        conditions: Names of the conditions that the data have.
    """
    data = made_up_data(autoencoder, rows, units, device)
    valid = torch.ones(rows, units, dtype=torch.bool, device=device)
    zeros = {name: torch.zeros(rows, dtype=torch.long, device=device) for name in conditions}
    return Batch(data, valid, condition=zeros)
