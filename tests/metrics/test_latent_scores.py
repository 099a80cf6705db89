"""Energy score over R and variogram score: by hand, against closed forms, and what they are blind to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import HeldOut, Posterior
from calmkit.metrics.latent_energy import LatentEnergy
from calmkit.metrics.latent_law import (
    dimension_pairs,
    gaussian_score,
    mean_distance,
    variogram_score,
    variogram_variance,
)
from calmkit.metrics.variogram import Variogram
from calmkit.testing import units_by_hand


def measured(measure: LatentEnergy | Variogram, *helds: HeldOut) -> dict[str, float]:
    metric: Any = measure.metric()
    for held in helds:
        measure.update(metric, held)
    return {key: float(value) for key, value in metric.compute().items()}


def chi_mean(dim: int) -> float:
    """E|x| of N(0, I) in so many dimensions."""
    return math.sqrt(2) * math.gamma((dim + 1) / 2) / math.gamma(dim / 2)


def test_numbers_by_hand() -> None:
    """Two units at (0, 0) and (3, 4), so R = 5. Draws of the first: (0, 0) and (0, 2), at 0 and 2 from the
    truth and 2 from each other: 2 * 1 - 2 = 0. Of the second: (0, 0) and (3, 0), at 5 and 4 from the truth
    and 3 from each other: 2 * 4.5 - 3 = 6. The mean is 3, over R 0.6.
    """
    draws = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [3.0, 0.0]]])
    found = measured(LatentEnergy(), units_by_hand(draws, torch.tensor([[0.0, 0.0], [3.0, 4.0]])))
    assert (found[""], found["spread"], found["within"]) == pytest.approx((3, 5, 0))
    assert found["relative"] == pytest.approx(0.6)
    assert "spread_low" not in found
    assert "relative_low" in found


def test_variogram_by_hand() -> None:
    """p = 1; unit (0, 3): a = 3, draws (0, 1) and (0, 4): v = 1, 4, so (3 - 1)(3 - 4) = -2. Unit (0, 5):
    a = 5, draws (0, 2), (0, 4): (5 - 2)(5 - 4) = 3. Mean 0.5; the variance of 3 and 5 is 2.
    """
    draws = torch.tensor([[[0.0, 1.0], [0.0, 2.0]], [[0.0, 4.0], [0.0, 4.0]]])
    target = torch.tensor([[0.0, 3.0], [0.0, 5.0]])
    assert variogram_score(draws, target, power=1.0).tolist() == pytest.approx([-2, 3])
    found = measured(Variogram(power=1.0), units_by_hand(draws, target))
    assert (found[""], found["spread"], found["relative"]) == pytest.approx((0.5, 2, 0.25))


def world(head: Tensor, truth: Tensor, std: float = 0.0) -> HeldOut:
    """Units whose posteriors have these means, and draws of a head for them."""
    held = units_by_hand(head, truth)
    return replace(held, target=Posterior(truth, torch.full_like(truth, math.log(std)) if std else None))


def test_draws_of_the_law_of_all_units_score_r_and_exact_ones_score_the_width_of_the_posterior() -> None:
    """D = 8, all latents N(0, I): R = sqrt 2 E|x|, and so is the score of draws that know no context; a
    posterior of width 0.1 has r = 0.1 sqrt 2 E|x|, and a head that knows it scores r. Of 4,000 units: the
    standard errors are below 0.5 %; false alarms below 1e-8 by six of them.
    """
    torch.manual_seed(0)
    units, dim = 4000, 8
    mean = torch.randn(units, dim) * math.sqrt(1 - 0.01)
    truth = math.sqrt(2) * chi_mean(dim)
    blind = measured(LatentEnergy(), world(torch.randn(4, units, dim), mean, 0.1))
    knows = measured(LatentEnergy(), world(mean + 0.1 * torch.randn(4, units, dim), mean, 0.1))
    assert blind["spread"] == pytest.approx(truth, rel=0.02)
    assert blind["within"] == pytest.approx(0.1 * truth, rel=0.03)
    assert blind["relative"] == pytest.approx(1, abs=0.03)
    assert blind["gaussian"] == pytest.approx(1, abs=0.03)
    assert knows["relative"] == pytest.approx(0.1, abs=0.003)


def test_one_gaussian_comes_close_to_r_where_the_latents_lie_in_clusters() -> None:
    """What a plateau at R means: 64 clusters in 32 dimensions, R apart and r = R / 20 wide. The best single
    Gaussian scores R but for some percent, so all that tells clusters apart lies below it.
    """
    torch.manual_seed(0)
    centres = torch.randn(64, 32)
    y = centres[torch.randint(64, (4000,))] + torch.randn(4000, 32) / 20
    spread = mean_distance(y)
    assert spread == pytest.approx(math.sqrt(2) * chi_mean(32) * 63 / 64, rel=0.05)
    assert 0.97 < gaussian_score(y) / spread < 1.06


def test_the_energy_score_of_a_shifted_gaussian_is_that_of_the_closed_form() -> None:
    """One dimension, truth 0 and draws N(m, 1): 2 E|x| - 2 / sqrt pi, where E|x| is the mean of a folded
    normal. Standard error 0.5 % of 20,000 units of 2 draws; six of them.
    """
    torch.manual_seed(0)
    m, units = 0.7, 20000
    folded = math.sqrt(2 / math.pi) * math.exp(-m * m / 2) + m * math.erf(m / math.sqrt(2))
    found = measured(LatentEnergy(), world(m + torch.randn(2, units, 1), torch.randn(units, 1) * 1e-9))
    assert found[""] == pytest.approx(2 * folded - 2 / math.sqrt(math.pi), abs=0.04)


def correlated(num: int, units: int, rho: float) -> Tensor:
    """Pairs of standard normals with that correlation, `[num, units, 2]`."""
    one, other = torch.randn(2, num, units)
    return torch.stack([one, rho * one + math.sqrt(1 - rho * rho) * other], -1)


def test_the_variogram_score_sees_dependence_that_margins_do_not_show() -> None:
    """y_1 - y_2 is N(0, 2 - 2 rho), so with p = 1 v = |y_1 - y_2| has the mean sqrt(2 s / pi) and the
    variance s (1 - 2 / pi), s = 2 - 2 rho. The truth, rho = 0.9, scores its variance, whatever S; draws with
    the same margins and rho = 0 score the squared gap of the means more. Six standard errors of 20,000
    units.
    """
    torch.manual_seed(0)
    (y,) = correlated(1, 20000, 0.9)
    variance, gap = 0.2 * (1 - 2 / math.pi), (math.sqrt(4 / math.pi) - math.sqrt(0.4 / math.pi)) ** 2
    for draws in (2, 8):
        right = variogram_score(correlated(draws, 20000, 0.9), y, power=1.0).mean()
        wrong = variogram_score(correlated(draws, 20000, 0.0), y, power=1.0).mean()
        assert right == pytest.approx(variance, abs=0.008)
        assert wrong == pytest.approx(variance + gap, abs=0.04)
    assert variogram_variance(y, power=1.0) == pytest.approx(variance, abs=0.004)


def test_a_shift_alike_in_all_dimensions_is_not_seen_by_the_variogram_score() -> None:
    torch.manual_seed(0)
    draws, y = torch.randn(3, 50, 4), torch.randn(50, 4)
    assert torch.allclose(variogram_score(draws + 7, y), variogram_score(draws, y))


def test_many_dimensions_are_looked_at_in_evenly_spread_pairs() -> None:
    first, second = dimension_pairs(4, 100)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [
        (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3),
    ]  # fmt: skip
    first, second = dimension_pairs(64, 100)
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 100
    assert (first < second).all()
    assert (int(first[0]), int(first[-1]), int(second[-1])) == (0, 62, 63)


def test_distances_are_over_different_units_alone() -> None:
    y = torch.tensor([[0.0], [1.0], [5.0]])
    assert mean_distance(y) == pytest.approx((1 + 5 + 4) / 3)
    many = torch.arange(400.0).unsqueeze(1)  # E|i - j| of i != j below n is (n + 1) / 3
    assert mean_distance(many) == pytest.approx(401 / 3, rel=0.03)
    assert mean_distance(torch.eye(400)) == pytest.approx(math.sqrt(2))  # a unit and itself would be at 0
    with pytest.raises(ValueError, match="needs 2 of them, got 1"):
        mean_distance(y[:1])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LatentEnergy(draws=1), "latent_energy: draws must be at least 2, got 1"),
        (lambda: LatentEnergy(targets=1), "latent_energy: targets must be at least 2, got 1"),
        (lambda: Variogram(power=0.0), "variogram: power must be above 0, got 0.0"),
        (lambda: Variogram(pairs=0), "variogram: pairs must be at least 1, got 0"),
        (lambda: variogram_score(torch.zeros(1, 2, 2), torch.zeros(2, 2)), "at least 2 draws, got 1"),
    ],
)
def test_settings_that_say_nothing_are_refused(make: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()
