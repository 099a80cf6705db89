"""Draws of many units at once, in blocks of bounded memory.

Source: teacher forcing: Williams and Zipser, A Learning Algorithm for Continually Running Fully Recurrent
Neural Networks, 1989, section 4. https://doi.org/10.1162/neco.1989.1.2.270
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from calmkit.interfaces import Context, SampleOptions
from calmkit.model import CalmModel

DRAWS_PER_BLOCK = 2**14  # head draws made at once: bounds the memory of a head's hidden layers


def draw_units(
    model: CalmModel, context: Context, where: Bool[Tensor, "B L"], num: int, options: SampleOptions | None
) -> tuple[Shaped[Tensor, "*num_places_and_data"], Shaped[Tensor, "num P *event"]]:
    """Draws of the chosen units, in blocks of positions (a head that reads a memory takes all at once)."""
    if model.head.info.needs_memory:
        data, z = model.draw(context, num, options)
        return data[:, where], z[:, where]
    chosen = context[where]
    size = max(1, DRAWS_PER_BLOCK // num)
    blocks = [model.draw(chosen[i : i + size], num, options) for i in range(0, len(chosen.h), size)]
    return torch.cat([data for data, _ in blocks], 1), torch.cat([z for _, z in blocks], 1)
