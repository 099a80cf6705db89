"""Latents: what there is to know of an autoencoder's latents before a head is trained on them.

How robust their text is (`latent_robustness`), what law they have (`latent_law`), how they lie to each other
(`latent_geometry`), and what a report needs to draw them. Every number and its unit: docs/latents.md.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calmkit.interfaces import Autoencoder, Batch
from calmkit.text.metrics.latent_geometry import (
    PATHS,
    nearness,
    path_changes,
    path_strangers,
    random_pairs,
    read_paths,
)
from calmkit.text.metrics.latent_law import latent_law
from calmkit.text.metrics.latent_robustness import robustness
from calmkit.text.metrics.latent_units import (
    CodedUnits,
    code_units,
    distinct,
    evaluating,
    evenly,
    spread_past,
    spread_units,
)

POINTS = 300  # of the projection: more would hide each other in a figure
SHOWN = 4  # lines whose text is shown
SHOWN_EVERY = 2  # of the points of such a line: 9 of 17


@torch.no_grad()
def latent_diagnostics(
    autoencoder: Autoencoder,
    batches: Iterable[Batch],
    *,
    max_units: int = 4096,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the latents of any continuous autoencoder, as plain values that JSON can hold.

    The autoencoder gets back its modes; torch's default generators stay where they were. A number that does
    not exist is left out: KL and widths of a point, a distance between chunks where all are the same, a KL
    that is infinite, and a line between two chunks where the decoder reads what stands before one.

    Args:
        autoencoder: Of continuous events; others have no latents, so nothing is said of them.
        batches: Of chunks `[B, L, K]`, as a datamodule's validation loader gives.
        max_units: How many of the valid units are looked at, spread evenly.
        seed: The same seed gives the same values.

    Returns:
        `units` and `distinct_units` looked at, and the keys of docs/latents.md; `{}` for token events.

    Raises:
        ValueError: For a `max_units` below 1, data without a valid unit, or latents that are not finite.
    """
    if autoencoder.event.kind != "continuous":
        return {}
    generator = torch.Generator().manual_seed(seed)
    with evaluating(autoencoder):
        with torch.random.fork_rng(devices=[]):  # a loader draws a seed for its workers, even for none
            kept = [*batches]
        past = spread_past(autoencoder, kept, max_units)
        units = code_units(autoencoder, spread_units(kept, max_units), past)
        rows = distinct(units.chunks)
        found: dict[str, Any] = {"units": len(units.chunks), "distinct_units": len(rows)}
        found |= robustness(units, generator)
        found |= latent_law(units.posterior, generator)
        found |= projection(units.posterior.mean, units.chunks, rows[evenly(len(rows), POINTS)])
        if len(rows) > 1:
            found |= nearness(units.chunks[rows], units.posterior.mean[rows], generator)
            found |= smoothness(units, rows, generator) if past is None else {}
    return {name: value for name, value in found.items() if not _is_unknown(value)}


def smoothness(
    units: CodedUnits, rows: Int[Tensor, " n"], generator: torch.Generator, num: int = PATHS
) -> dict[str, Any]:
    """`path_changes` and `path_strangers` of random lines between the chunks in `rows`, which all differ.

    `interpolation` holds a few of the lines: the chunks `start` and `end`, and `path`, what is read on the
    way from the one's mean to the other's, both included.
    """
    one, other = (rows[picks] for picks in random_pairs(len(rows), num, generator))
    mean, chunks = units.posterior.mean, units.chunks
    ids = read_paths(units.read, mean[one], mean[other])
    shown = [
        {"start": start, "end": end, "path": path}
        for start, end, path in zip(
            chunks[one[:SHOWN]].tolist(),
            chunks[other[:SHOWN]].tolist(),
            ids[:SHOWN, ::SHOWN_EVERY].tolist(),
            strict=True,
        )
    ]
    found = {"path_changes": path_changes(ids), "path_strangers": path_strangers(ids)}
    return found | {"interpolation": shown}


def projection(
    mean: Float[Tensor, "N D"], chunks: Int[Tensor, "N K"], rows: Int[Tensor, " n"]
) -> dict[str, Any]:
    """The means on their first two principal components.

    A component points to where its largest entry is positive, which makes the sign a fact. The second one is
    0 where D = 1.

    Returns:
        `projection`: `x`, `y` in latent units and the `ids` of each of the rows; `projection_variance`: the
        shares of the variance of all means, 0 where there is none.

    Source:
        Pearson, On Lines and Planes of Closest Fit to Systems of Points in Space, 1901.
    """
    centred = mean - mean.mean(0)
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(mean))
    variances, axes = variances.clamp(min=0).flip(0)[:2], axes.flip(1)[:, :2]  # [D, 2]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    flat = centred[rows] @ axes
    if mean.shape[1] == 1:
        flat, variances = (torch.cat([one, torch.zeros_like(one)], -1) for one in (flat, variances))
    total = centred.square().sum().item() / len(mean)
    shares = [value / total if total else 0.0 for value in variances.tolist()]
    points = zip(flat.tolist(), chunks[rows].tolist(), strict=True)
    return {"projection": [{"x": x, "y": y, "ids": ids} for (x, y), ids in points]} | {
        "projection_variance": shares
    }


def _is_unknown(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
