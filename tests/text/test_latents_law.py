from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import LAWS
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from calmkit.interfaces import Posterior
from calmkit.text.metrics import latent_law
from calmkit.text.metrics.latent_law import (
    active_dims,
    aggregate_moments,
    energy_distance,
    gaussian_kl,
    gaussian_kl_floor,
    kl_per_dim,
)


def some_posterior(seed: int, units: int, dims: int) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = torch.randn(2, units, dims, generator=generator)
    return Posterior(1 + 2 * mean, log_std - 0.5)


def test_kl_is_torch_s_mean_over_units() -> None:
    posterior = some_posterior(0, 50, 3)
    assert posterior.log_std is not None
    theirs = kl_divergence(Normal(posterior.mean, posterior.log_std.exp()), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(kl_per_dim(posterior), theirs)


def test_a_dimension_is_active_above_a_variance_of_one_hundredth() -> None:
    mean = torch.tensor([[0.11, 0.09, 5.0], [-0.11, -0.09, 5.0]])  # variances 0.0121, 0.0081, 0
    assert active_dims(mean) == 1


def test_aggregate_moments_by_hand() -> None:
    posterior = Posterior(
        torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[1.0, 2.0], [3.0, 2.0]]).log()
    )
    mean, covariance = aggregate_moments(posterior)
    assert mean.tolist() == [1.0, 2.0]
    # means vary by 1 and together; the squared widths are on average (1 + 9) / 2 and 4
    torch.testing.assert_close(covariance, torch.tensor([[6.0, 1.0], [1.0, 5.0]]))
    torch.testing.assert_close(aggregate_moments(Posterior(posterior.mean))[1], torch.ones(2, 2))
    torch.testing.assert_close(aggregate_moments(posterior[:, :1])[1], torch.tensor([[6.0]]))


def test_gaussian_kl_is_torch_s_and_infinite_where_singular() -> None:
    mean, root = torch.randn(4), torch.randn(4, 4)
    covariance = root @ root.T + 0.1 * torch.eye(4)
    theirs = kl_divergence(
        MultivariateNormal(mean, covariance), MultivariateNormal(torch.zeros(4), torch.eye(4))
    )
    assert gaussian_kl(mean, covariance) == pytest.approx(theirs.item())
    assert gaussian_kl(torch.tensor([3.0]), torch.eye(1)) == 4.5
    for thin in torch.randn(20, 4, 3):  # rounding leaves eigenvalues of either sign
        assert gaussian_kl(mean, thin @ thin.T) == math.inf
    assert gaussian_kl(mean, torch.zeros(4, 4)) == math.inf


@LAWS
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 6))
def test_the_aggregate_is_nearer_to_the_prior_than_its_parts_are(seed: int, units: int, dims: int) -> None:
    posterior = some_posterior(seed, units, dims)
    nearer, parts = gaussian_kl(*aggregate_moments(posterior)), kl_per_dim(posterior).sum().item()
    assert 0 <= nearer <= parts + 1e-9
    if units == 1:
        assert nearer == pytest.approx(parts)


def test_aggregate_of_the_prior_itself_is_at_the_floor() -> None:
    units, dims = 3000, 8
    kl = gaussian_kl(*aggregate_moments(Posterior(torch.randn(units, dims))))
    # 2 N KL is chi-squared with D (D + 3) / 2 = 44 degrees: outside 10 .. 120 once in 1e8 seeds
    assert 10 / (2 * units) < kl < 120 / (2 * units)
    assert gaussian_kl_floor(units, dims) == pytest.approx(44 / (2 * units))


def test_energy_distance_by_hand() -> None:
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    assert energy_distance(x, y) == pytest.approx(2 * (1 + 5 + 1 + 3) / 4 - 2 - 4)
    assert energy_distance(torch.tensor([[0.0, 0.0]] * 2), torch.tensor([[3.0, 4.0]] * 2)) == 10.0


def test_energy_distance_of_one_law_is_zero_and_sees_a_width() -> None:
    units, dims = 1000, 8
    x, y = torch.randn(2, units, dims)
    # N times it is near (chi2_8 - 8) / 2, so never below -4 and above 25 once in 1e8 seeds
    assert -5 / units < energy_distance(x, y) < 25 / units
    assert energy_distance(0.5 * x, y) > 0.2


def test_energy_distance_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(40, 3), torch.randn(31, 3)
    whole = energy_distance(x, y)
    monkeypatch.setattr(latent_law, "DISTANCE_BLOCK", 7)
    assert energy_distance(x, y) == pytest.approx(whole)


def test_what_is_said_of_a_posterior_by_hand() -> None:
    # the first dimension says much; the second says nothing; the third is wide, constant, and costs 0.0099
    mean = torch.tensor([[3.0, 0.0, 0.1], [-3.0, 0.0, 0.1]])
    std = torch.tensor([[0.5, 1.0, 1.07], [0.1, 1.0, 1.07]])
    found = latent_law.latent_law(Posterior(mean, std.log()), torch.Generator().manual_seed(0))
    assert found["active_dims"] == 1
    assert found["collapsed_dims"] == 2
    assert found["kl_dead_dims"] == 2
    assert found["kl"] == pytest.approx(sum(found["kl_per_dim"]))
    assert found["posterior_std_per_dim"] == pytest.approx([0.3, 1.0, 1.07])
    assert found["posterior_std"] == pytest.approx(0.79)
    assert found["mean_std_per_dim"] == pytest.approx([3.0, 0.0, 0.0])
    assert found["aggregate_variance_per_dim"] == pytest.approx([9.13, 1.0, 1.07**2])
    assert found["aggregate_mean_norm"] == pytest.approx(0.1)
    assert found["kl_per_dim"][2] == pytest.approx(0.5 * (0.01 + 1.07**2 - 1) - math.log(1.07))
