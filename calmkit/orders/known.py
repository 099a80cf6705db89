"""What is known before the first step of generation: as many units in every row, and not all of them."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor


def known_at_start(
    order: str, rows: int, units: int, known: Bool[Tensor, "B L"] | None, device: torch.device
) -> tuple[Bool[Tensor, "B L"], int]:
    """Which units are there already (`known` None: none is), and how many of each row are not.

    Raises:
        ValueError: For a `known` of another shape, or rows that know different numbers of units, which could
            not be drawn in the same steps; naming the order and what would do.
    """
    if known is None:
        return torch.zeros(rows, units, dtype=torch.bool, device=device), units
    if known.shape != (rows, units):
        raise ValueError(
            f"{order}: known has shape {tuple(known.shape)}; ({rows}, {units}) would do, rows and units."
        )
    counts = known.sum(1).tolist()
    if min(counts) != max(counts):
        raise ValueError(
            f"{order}: rows know {min(counts)} to {max(counts)} units; as many in every row would do, in a "
            "generation for each number."
        )
    return known.to(device), units - counts[0]
