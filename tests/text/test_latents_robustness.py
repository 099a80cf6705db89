from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from calmkit.text.metrics.latent_robustness import (
    SCALES,
    chunk_accuracy,
    robustness_curve,
    spread_per_dim,
    token_accuracy,
    tolerance,
)

CHUNKS = torch.randint(9, (8000, 2), generator=torch.Generator().manual_seed(1))


def rounded(z: Tensor) -> Tensor:
    return z.round().long()


def test_accuracies_by_hand() -> None:
    chunks, ids = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 0]])
    assert token_accuracy(ids, chunks) == 0.75
    assert chunk_accuracy(ids, chunks) == 0.5


def test_noise_breaks_as_many_tokens_as_fall_past_one_half() -> None:
    noise = torch.randn(CHUNKS.shape)
    scales = (0.0, 0.3, 1.0)
    curve = robustness_curve(
        rounded, CHUNKS, CHUNKS.double(), noise, spread=torch.tensor([2.0, 2.0]), scales=scales
    )
    assert [point["scale"] for point in curve] == list(scales)
    for point in curve:
        kept = math.erf(0.5 / (2 * point["scale"] * math.sqrt(2))) if point["scale"] else 1.0
        # 6 standard errors of a share: a false alarm in 5e8 seeds
        stray = 6 * math.sqrt(kept * (1 - kept) / CHUNKS.numel())
        assert point["token_accuracy"] == pytest.approx(kept, abs=stray)
        stray = 6 * math.sqrt(kept**2 * (1 - kept**2) / len(CHUNKS))
        assert point["chunk_accuracy"] == pytest.approx(kept**2, abs=stray)


def test_spread_is_the_standard_deviation_of_each_dimension_s_means() -> None:
    mean = torch.tensor([[0.0, 5.0], [4.0, 5.0]])
    assert spread_per_dim(mean).tolist() == [2.0, 0.0]
    # noise of 1 at scale 1 moves the first dimension by 2, and the second, which says nothing, not at all
    seen: list[Tensor] = []

    def read(z: Tensor) -> Tensor:
        seen.append(z)
        return z.long()

    robustness_curve(read, torch.zeros(2, 2, dtype=torch.long), mean, torch.ones(2, 2), scales=(0.0, 1.0))
    assert seen[0].tolist() == [[0.0, 5.0], [4.0, 5.0]]
    assert seen[1].tolist() == [[2.0, 5.0], [6.0, 5.0]]


def test_the_scale_of_each_dimension_changes_nothing() -> None:
    noise, factor = torch.randn(CHUNKS.shape), torch.tensor([0.25, 64.0])  # powers of 2 round nothing
    plain = robustness_curve(rounded, CHUNKS, CHUNKS.double(), noise)
    scaled = robustness_curve(lambda z: rounded(z / factor), CHUNKS, CHUNKS.double() * factor, noise)
    assert plain == scaled
    assert len(plain) == len(SCALES)
    assert 0 < plain[-1]["token_accuracy"] < plain[0]["token_accuracy"] == 1


def test_tolerance_by_hand() -> None:
    curve = [{"scale": s, "token_accuracy": a} for s, a in ((0.0, 0.8), (1.0, 0.72), (3.0, 0.32), (4.0, 0.6))]
    assert tolerance(curve, 0.95) == pytest.approx(0.5)  # 0.76 is half-way from 0.8 to 0.72
    assert tolerance(curve, 0.9) == pytest.approx(1.0)  # 0.72 itself is not below
    assert tolerance(curve, 0.5) == pytest.approx(2.6)  # 0.4 after 0.32 of a fall of 0.4, over a width of 2
    assert tolerance(curve, 0.3) == 4.0  # never
    level = [{"scale": s, "token_accuracy": a} for s, a in ((0.0, 1.0), (1.0, 0.5), (2.0, 0.5), (3.0, 0.4))]
    assert tolerance(level, 0.5) == 2.0  # reached at 1, left at 2
    assert math.isnan(tolerance([{"scale": 0.0, "token_accuracy": 0.0}], 0.5))
