from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from calmkit.images.measures.distances import frechet_distance, kernel_distance
from calmkit.images.measures.intervals import around, resampled, share


def cloud(mean: Tensor, covariance: Tensor, num: int = 50) -> Tensor:
    """Points whose mean and covariance are exactly these."""
    points = torch.randn(num, len(mean))
    points = points - points.mean(0)
    white = points @ torch.linalg.inv(torch.linalg.cholesky(points.T.cov())).T
    return mean + white @ torch.linalg.cholesky(covariance).T


def test_frechet_distance_of_two_gaussians_by_hand() -> None:
    one = cloud(torch.tensor([0.0, 0.0]), torch.diag(torch.tensor([1.0, 4.0])))
    other = cloud(torch.tensor([3.0, 4.0]), torch.diag(torch.tensor([9.0, 1.0])))
    # 3^2 + 4^2, and between the standard deviations (1 - 3)^2 + (2 - 1)^2
    assert frechet_distance(one, other).value == pytest.approx(30, abs=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute() -> None:
    s, t = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    # of 2 x 2 matrices tr (ST)^(1/2) = (tr ST + 2 det(ST)^(1/2))^(1/2): tr ST = 12, det ST = 15
    wanted = 4 + 6 - 2 * math.sqrt(12 + 2 * math.sqrt(15))
    found = frechet_distance(cloud(torch.zeros(2), s), cloud(torch.zeros(2), t))
    assert found.value == pytest.approx(wanted, abs=1e-9)


def test_kernel_distance_by_hand() -> None:
    real, drawn = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    # (xy + 1)^3: within 1 and 7^3 = 343, between the mean of 1, 1, 27, 64
    assert kernel_distance(real, drawn).value == pytest.approx(1 + 343 - 2 * 93 / 4)


def test_kernel_distance_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    real, drawn = torch.randn(30, 5), torch.randn(30, 5) + 0.5
    with pytest.warns(UserWarning, match="buffer"):
        theirs = KernelInceptionDistance(torch.nn.Identity(), subsets=1, subset_size=30)
    theirs.update(real, real=True)
    theirs.update(drawn, real=False)
    assert kernel_distance(real, drawn).value == pytest.approx(theirs.compute()[0].item(), rel=1e-9)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_a_distance_is_symmetric(distance) -> None:
    one, other = torch.randn(40, 6), 2 * torch.randn(30, 6) + 1
    assert distance(one, other).value == pytest.approx(distance(other, one).value, rel=1e-7)


def test_no_set_is_away_from_itself() -> None:
    wide, flat = torch.randn(40, 6), torch.randn(3, 6)  # covariances of rank 6, and of rank 2
    for features in (wide, flat):
        assert frechet_distance(features, features).value == pytest.approx(0, abs=1e-6)
    # unbiased: without pairs of an image and itself it falls below 0, never above
    assert kernel_distance(wide, wide).value < 0


def test_a_collapsed_model_is_as_far_as_the_variance_that_is_missing() -> None:
    real = cloud(torch.zeros(3), torch.diag(torch.tensor([1.0, 2.0, 3.0])))
    assert frechet_distance(real, torch.zeros(20, 3)).value == pytest.approx(6, abs=1e-6)


def test_replicates_are_of_the_resampled_images() -> None:
    real, drawn = torch.randn(6, 2), torch.randn(5, 2) + 1
    ones, others = torch.tensor([[0, 0, 1, 2, 3, 5], [0, 1, 2, 3, 4, 5]]), torch.tensor([[0, 1, 1, 3, 4]] * 2)
    wanted = [frechet_distance(real[a], drawn[b]).value for a, b in zip(ones, others, strict=True)]
    found = frechet_distance(real, drawn, (ones, others))
    assert found.high - found.low == pytest.approx(0.95 * abs(wanted[0] - wanted[1]))
    assert (found.low + found.high) / 2 == pytest.approx(found.value)

    def kernel(a: Tensor, b: Tensor) -> float:
        def pairs(index: Tensor, points: Tensor) -> float:
            values = [
                (points[i] @ points[j] / 2 + 1) ** 3 for i in index for j in index if i != j
            ]  # no image with itself
            return float(sum(values) / len(values))

        between = sum((real[i] @ drawn[j] / 2 + 1) ** 3 for i in a for j in b) / (len(a) * len(b))
        return pairs(a, real) + pairs(b, drawn) - 2 * float(between)

    first, second = (kernel(a, b) for a, b in zip(ones, others, strict=True))
    spread = kernel_distance(real, drawn, (ones, others))
    assert spread.high - spread.low == pytest.approx(0.95 * abs(first - second))


def test_a_large_kernel_is_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    real, drawn = torch.randn(30, 3), torch.randn(20, 3)
    both = resampled(30, 50, 0), resampled(20, 50, 1)
    whole = kernel_distance(real, drawn, both)
    monkeypatch.setattr("calmkit.images.measures.distances.ROWS", 7)
    parts = kernel_distance(real, drawn, both)
    assert parts.value == pytest.approx(whole.value, rel=1e-9)
    assert parts.se == pytest.approx(whole.se, rel=1e-9)


def test_the_interval_lies_around_a_biased_distance() -> None:
    features = torch.randn(60, 10), torch.randn(60, 10)
    index = resampled(60, 200, 0), resampled(60, 200, 1)
    pairs = zip(*index, strict=True)
    plain = torch.tensor([frechet_distance(features[0][a], features[1][b]).value for a, b in pairs])
    found = frechet_distance(*features, index)
    assert found.value < plain.quantile(0.025)  # what percentiles as they are would have made of it
    assert found.low < found.value < found.high


def test_a_share_has_wilson_s_interval() -> None:
    found = share(torch.tensor([True] * 8 + [False] * 2))
    # (p + z^2/2n +- z (p(1-p)/n + z^2/4n^2)^(1/2)) / (1 + z^2/n) with p = 0.8, n = 10, z = 1.96
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert found.se == pytest.approx(math.sqrt(0.016))
    every = share(torch.ones(10, dtype=torch.bool))
    assert every.value == every.high == 1
    assert every.low == pytest.approx(10 / (10 + 1.959964**2))  # not 1: ten images can't show that


def test_replicates_are_moved_to_the_number() -> None:
    found = around(10.0, torch.arange(101.0) + 50)  # of mean 100: moved to -40 ... 60
    assert (found.low, found.high) == pytest.approx((-37.5, 57.5))
    gap = around(10.0, torch.tensor([math.nan, 3.0, 5.0]))  # a resample of one image alone has no pairs
    assert (gap.low, gap.high) == pytest.approx((9.05, 10.95))
    alone = around(10.0, torch.tensor([math.nan, 3.0]))
    assert math.isnan(alone.low)
    assert alone.named("fd") == {"fd": 10.0}


def test_resamples_are_by_seed_and_keep_the_number_of_each_label() -> None:
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    index = resampled(6, 40, 3, labels)
    assert torch.equal(index, resampled(6, 40, 3, labels))
    assert not torch.equal(index, resampled(6, 40, 4, labels))
    assert torch.equal(labels[index], labels.expand(40, 6))
    free = resampled(6, 40, 3)
    assert free.min() == 0
    assert free.max() == 5
    assert not torch.equal(labels[free], labels.expand(40, 6))
