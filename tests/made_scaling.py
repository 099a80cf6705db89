"""Results of a grid over size, length and K whose losses follow a power law exactly, without training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from made_results import made_cell

from calmkit.results.scaling import Fit
from calmkit.text.metrics.described import Brier, Nll

NUMBERS = {
    "brier_lm": Brier.info.numbers["lm"],
    "nll_per_token": Nll.info.numbers["per_token"],
}
ASKED = Fit(("brier_lm",), ("head", "autoencoder.chunk_size"), ("head",))
SIZES, LENGTHS = (3e4, 9e4, 27e4), (2e5, 6e5, 18e5)


def made_grid(
    floors: Mapping[str, float], head: str = "mixture", name: str = "brier_lm"
) -> list[dict[str, Any]]:
    """One seed per cell, 3 x 3 for each chunk size, from floor + 0.3 (N/9e4)^-1/2 + 0.4 (D/6e5)^-2/5."""
    cells = []
    for (chunk_size, floor), size, length in itertools.product(floors.items(), SIZES, LENGTHS):
        loss = floor + 0.3 * (size / 9e4) ** -0.5 + 0.4 * (length / 6e5) ** -0.4
        cell = made_cell(f"{head} K={chunk_size} {size:.0f} {length:.0f}", [1.0], chunk_size=int(chunk_size))
        cell["settings"] = {"head": head, "autoencoder.chunk_size": chunk_size}
        (trial,) = cell["trials"]
        trial["facts"] |= {"parameters": {"autoencoder": 400_000, "head": size}, "lm_train_tokens": length}
        trial["evaluation"] |= {name: loss if name.startswith("nll") else 100 * math.exp(-loss)}
        cells.append(cell)
    return cells
