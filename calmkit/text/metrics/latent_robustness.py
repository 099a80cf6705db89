"""Robustness: how much of a chunk comes back when its latent is disturbed.

A head never hits a latent exactly. What its error does to the text is the autoencoder's affair:

    z = mean + scale * s * noise,    noise ~ N(0, I),    s_d = standard deviation over units of mean_d

The disturbance is measured in each dimension's own spread, so autoencoders whose latents differ in scale, by
dimension too, have comparable curves: at scale 1 there is as much noise as there is signal. A dimension that
says nothing (s_d = 0) is not disturbed.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2.2 (a Gaussian of width 0.3 is
read back at more than 99.9 %). https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calmkit.text.metrics.latent_units import CodedUnits, Read, evenly

SCALES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
CURVE_UNITS = 1024  # of the curve, spread evenly: 12 readings of 4096 tokens at K = 4, +- 0.8 % at worst


def token_accuracy(ids: Int[Tensor, "*units K"], chunks: Int[Tensor, "*units K"]) -> float:
    """Share of tokens that came back, in [0, 1]."""
    return (ids == chunks).double().mean().item()


def chunk_accuracy(ids: Int[Tensor, "*units K"], chunks: Int[Tensor, "*units K"]) -> float:
    """Share of chunks of which every token came back, in [0, 1]."""
    return (ids == chunks).all(-1).double().mean().item()


def spread_per_dim(mean: Float[Tensor, "N D"]) -> Float[Tensor, " D"]:
    """Standard deviation over the units of each dimension's posterior mean, divided by N; latent units."""
    return mean.std(0, correction=0)


def robustness_curve(
    read: Read,
    chunks: Int[Tensor, "N K"],
    mean: Float[Tensor, "N D"],
    noise: Float[Tensor, "N D"],
    *,
    spread: Float[Tensor, " D"] | None = None,
    scales: Sequence[float] = SCALES,
) -> list[dict[str, float]]:
    """Accuracy of what is read from `mean + scale * spread * noise`, at each scale.

    All scales share one noise, so neighbouring points of the curve differ by the scale and not by luck.

    Args:
        noise: From N(0, I).
        spread: s above; None: that of `mean` itself.

    Returns:
        One `scale`, `token_accuracy` and `chunk_accuracy` per scale.
    """
    step = (spread_per_dim(mean) if spread is None else spread) * noise
    curve = []
    for scale in scales:
        ids = read(mean + scale * step)
        found = {"token_accuracy": token_accuracy(ids, chunks), "chunk_accuracy": chunk_accuracy(ids, chunks)}
        curve.append({"scale": float(scale), **found})
    return curve


def tolerance(curve: Sequence[Mapping[str, float]], share: float) -> float:
    """The scale at which token accuracy first falls below `share` of its value at the curve's first point.

    Linear between the points. The last scale where it never does: read 'at least'. NaN where nothing came
    back at the first point either.
    """
    floor = share * curve[0]["token_accuracy"]
    if floor == 0:
        return float("nan")
    for near, far in pairwise(curve):
        fall = near["token_accuracy"] - far["token_accuracy"]
        if far["token_accuracy"] < floor:
            part = (near["token_accuracy"] - floor) / fall
            return near["scale"] + part * (far["scale"] - near["scale"])
    return curve[-1]["scale"]


def robustness(units: CodedUnits, generator: torch.Generator) -> dict[str, Any]:
    """What comes back through one posterior draw, through the mean, and through growing noise.

    Returns:
        `token_accuracy`, `chunk_accuracy`; the same with `_mean`; the curve as `robustness`; `tolerance_99`
        and `tolerance_50`, the scales at which 99 % and 50 % of the curve's first token accuracy are left.
    """
    mean = units.posterior.mean
    found: dict[str, Any] = {}
    for suffix, z in (("", units.posterior.sample(generator=generator)[0]), ("_mean", mean)):
        ids = units.read(z)
        found[f"token_accuracy{suffix}"] = token_accuracy(ids, units.chunks)
        found[f"chunk_accuracy{suffix}"] = chunk_accuracy(ids, units.chunks)
    rows = evenly(len(mean), CURVE_UNITS)
    noise = torch.randn(len(rows), mean.shape[1], generator=generator, dtype=mean.dtype)
    some = units.at(rows)
    curve = robustness_curve(some.read, some.chunks, some.posterior.mean, noise, spread=spread_per_dim(mean))
    found["robustness"] = curve
    return found | {f"tolerance_{percent}": tolerance(curve, percent / 100) for percent in (99, 50)}
