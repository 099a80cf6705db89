"""Made-up data of the right shape, for what is measured or timed before there are any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from calmkit.interfaces import Autoencoder, Batch, Posterior, UnitwiseAutoencoder
from calmkit.model import CalmModel


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


def made_up_batch(autoencoder: Autoencoder, rows: int, units: int, device: torch.device | str) -> Batch:
    """A batch of such data, of no condition: a conditioner gives every row the null condition, which costs
    what any other does, and nobody has to know what shape others have.

    Args:
        autoencoder: As above.
        rows: B.
        units: L of the model's units.
        device: As above.
    """
    data = made_up_data(autoencoder, rows, units, device)
    valid = torch.ones(rows, units, dtype=torch.bool, device=device)
    return Batch(data, valid)


@final
@dataclass(frozen=True)
class MadeUpInput:
    """Input of the right shapes for the parts of a model, one row of it: zeros, and numbers around 0.

    Attributes:
        units: L.
        autoencoder: Says what the data look like.
        hidden_dim: Of the backbone.
        event: The shape of a value.
        discrete: Whether values are ids.
    """

    units: int
    autoencoder: Autoencoder
    hidden_dim: int
    event: tuple[int, ...]
    discrete: bool

    @classmethod
    def of(cls, model: CalmModel, units: int) -> MadeUpInput:
        """As the backbone and the head of a model see its units."""
        event = model.event
        return cls(
            units, model.autoencoder, model.backbone.hidden_dim, event.shape, event.kind != "continuous"
        )

    @classmethod
    def coded(cls, autoencoder: Autoencoder, units: int) -> MadeUpInput:
        """As the autoencoder sees them, where a transform makes other units of them."""
        event, layout = autoencoder.event, autoencoder.layout
        length = units if layout is None else math.prod(layout)
        return cls(length, autoencoder, 1, event.shape, event.kind != "continuous")

    def data(self, device: torch.device) -> Tensor:
        """As the autoencoder reads them."""
        return made_up_data(self.autoencoder, 1, self.units, device)

    def target(self, device: torch.device, dtype: torch.dtype) -> Posterior:
        """What a head predicts: Gaussians around 0, or the ids themselves."""
        if self.discrete:
            return Posterior(self.data(device))
        mean = torch.zeros(1, self.units, *self.event, device=device, dtype=dtype)
        return Posterior(mean, torch.zeros_like(mean))

    def unit_data(self, device: torch.device) -> Tensor | None:
        """The data of each unit; None where only whole rows have any."""
        return self.data(device) if isinstance(self.autoencoder, UnitwiseAutoencoder) else None

    def hidden(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """What a backbone reads or gives, `[1, L, H]`."""
        return torch.randn(1, self.units, self.hidden_dim, device=device, dtype=dtype)
