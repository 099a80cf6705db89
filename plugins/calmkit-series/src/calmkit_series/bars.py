"""Bars: what forecasts reach that learn next to nothing.

Source: CRPS of a normal law: Gneiting and Raftery, 2007, section 4.2.
https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.interfaces import Batch
from calmkit.model import CalmModel
from calmkit_series.corpus import Stretch


def crps_of_normal(
    mean: Float[Tensor, "*values"], std: Float[Tensor, "*values"], truth: Float[Tensor, "*values"]
) -> Float[Tensor, "*values"]:
    """s (w (2 F(w) - 1) + 2 f(w) - 1 / sqrt(pi)), with w = (truth - mean) / s."""
    w = (truth - mean) / std
    density = torch.exp(-0.5 * w.square()) / math.sqrt(2 * math.pi)
    return std * (w * torch.special.erf(w / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def bar_scores(train: list[Stretch], batches: Iterable[Batch], model: CalmModel) -> dict[str, float]:
    """`crps_normal` and `crps_walk` on the units that count."""
    values = torch.from_numpy(np.concatenate([one.values for one in train]))
    mean, std = values.mean(), values.std(correction=0).clamp_min(1e-12)
    sums, count = dict.fromkeys(("crps_normal", "crps_walk"), 0.0), 0
    steps: Tensor | None = None
    for batch in batches:
        data, keep = batch.data.double().cpu(), model.counted(batch).cpu()
        if steps is None:
            steps = torch.tensor([_step(train, by, float(std)) for by in range(1, data.shape[-1] + 1)])
        normal = crps_of_normal(mean.expand_as(data), std.expand_as(data), data)
        last = data[:, :-1, -1:].expand_as(data[:, 1:])
        walk = crps_of_normal(last, steps.to(data).expand_as(last), data[:, 1:])
        sums["crps_normal"] += float(normal[keep].mean(-1).sum())
        sums["crps_walk"] += float(torch.cat([normal[:, :1], walk], 1)[keep].mean(-1).sum())
        count += int(keep.sum())
    return {name: value / max(count, 1) for name, value in sums.items()}


def _step(train: list[Stretch], by: int, otherwise: float) -> float:
    """Root mean square of how far values move in so many steps."""
    moved = np.concatenate([one.values[by:] - one.values[:-by] for one in train])
    return max(float(np.sqrt(np.square(moved).mean())), 1e-12) if len(moved) else otherwise
