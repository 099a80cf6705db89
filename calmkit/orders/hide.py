"""Training in any order: a random part of the units of each row is hidden, and these are predicted."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from calmkit.interfaces import Plan


def hide(valid: Bool[Tensor, "B L"], ratio: Float[Tensor, " B"]) -> Plan:
    """Hide and predict a share `ratio` of the real units of each row, rounded up, and at least one.

    Which ones is drawn for each row by itself, all sets of that size alike. Units that are not real are
    neither known nor predicted.
    """
    real = valid.sum(1)
    count = (ratio * real).ceil().long().clamp(min=1).minimum(real)
    # float32 whatever torch's default: one seed, one plan
    noise = torch.rand(valid.shape, dtype=torch.float32, device=valid.device).masked_fill(~valid, 2.0)
    rank = noise.argsort(1).argsort(1)
    hidden = rank < count.unsqueeze(1)
    return Plan(known=valid & ~hidden, predict=hidden)
