from __future__ import annotations

import math

import pytest
import torch

from calmkit.interfaces import EventSpec, Posterior


def test_v1_kl_by_hand() -> None:
    """Mean (.1, 1), std (.9, .5)."""
    posterior = Posterior(torch.tensor([0.1, 1.0]), torch.tensor([0.9, 0.5]).log())
    torch.testing.assert_close(posterior.kl(), torch.tensor([0.01536052, 0.81814718]), atol=5e-9, rtol=0)
    assert posterior.kl().clamp(min=0.5).sum().item() == pytest.approx(1.31814718, abs=5e-9)


def test_kl_is_torchs_and_zero_only_at_the_standard_normal() -> None:
    mean, log_std = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal
    known = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0))
    torch.testing.assert_close(Posterior(mean, log_std).kl(), known)
    assert Posterior(torch.zeros(2), torch.zeros(2)).kl().eq(0).all()


def test_log_std_is_of_the_standard_deviation() -> None:
    """A log-variance would make these draws exp(-1) / exp(-2) = 2.7 times wider."""
    draws = Posterior(torch.full((1000,), 3.0), torch.full((1000,), -2.0)).sample(100)
    assert draws.shape == (100, 1000)
    # 1e5 draws: the mean has standard error std/316, the std has std/447; 6 of them fail with rate 2e-9
    assert draws.mean().item() == pytest.approx(3.0, abs=6 * math.exp(-2) / 316)
    assert draws.std().item() == pytest.approx(math.exp(-2), abs=6 * math.exp(-2) / 447)


def test_draws_are_reparameterised() -> None:
    """d z / d mean is 1 and d z / d log_std is z - mean."""
    mean, log_std = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)
    z = Posterior(mean, log_std).sample()[0]
    by_mean, by_log_std = torch.autograd.grad(z.sum(), (mean, log_std))
    torch.testing.assert_close(by_mean, torch.ones(4))
    torch.testing.assert_close(by_log_std, (z - mean).detach())


def test_generator_decides() -> None:
    posterior = Posterior(torch.zeros(3), torch.zeros(3))
    first, again = (posterior.sample(2, torch.Generator().manual_seed(7)) for _ in range(2))
    assert first.equal(again)
    assert not first.equal(posterior.sample(2))


def test_a_point_gives_itself_ids_included() -> None:
    ids = torch.tensor([[4, 5], [6, 7]])
    draws = Posterior(ids).sample(3)
    assert draws.dtype == torch.long
    assert draws.equal(torch.stack([ids, ids, ids]))
    with pytest.raises(ValueError, match="no finite KL"):
        Posterior(ids).kl()


def test_indexing_picks_mean_and_width_together() -> None:
    posterior = Posterior(torch.arange(6.0).view(3, 2), -torch.arange(6.0).view(3, 2))
    keep = torch.tensor([True, False, True])
    assert posterior[keep].mean.tolist() == [[0, 1], [4, 5]]
    assert posterior[keep].log_std is not None
    assert posterior[keep].log_std.tolist() == [[0, -1], [-4, -5]]
    assert Posterior(torch.arange(3))[1:].log_std is None


def test_kind_follows_the_vocabulary() -> None:
    assert EventSpec((8,)).kind == "continuous"
    assert EventSpec((4,), 256).kind == "tokens"


def test_values_that_are_alike_are_picked_as_often_as_each_other() -> None:
    """30,000 picks of 3 values: each share within 1/3 +- 4.5 se; false alarms: 2 of 100,000 seeds."""
    values = torch.arange(3.0).reshape(3, 1, 1)
    picked = Posterior.among(values).sample(30_000, torch.Generator().manual_seed(1)).flatten()
    for value in range(3):
        share = float((picked == value).double().mean())
        assert abs(share - 1 / 3) < 4.5 * (2 / 9 / 30_000) ** 0.5


def test_values_are_picked_by_the_weights_of_their_own_unit() -> None:
    """Unit 0 can only be its first value, unit 1 only its second; the mean is the weighted one."""
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])  # [R, units, E]
    posterior = Posterior.among(values, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    wanted = torch.tensor([[1.0, 2.0], [7.0, 8.0]])
    assert torch.equal(posterior.sample(5), wanted.expand(5, 2, 2))
    assert torch.equal(posterior.mean, wanted)
    half = Posterior.among(values, torch.full((2, 2), 0.5))
    assert torch.equal(half.mean, torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    assert torch.equal(Posterior.among(values).mean, half.mean)


def test_values_are_indexed_and_flattened_as_their_units_are() -> None:
    values, weights = torch.randn(4, 2, 3, 5), torch.rand(4, 2, 3)
    posterior = Posterior.among(values, weights)
    keep = torch.tensor([[True, False, True], [False, True, True]])
    kept = posterior[keep]
    assert kept.values is not None
    assert kept.weights is not None
    assert torch.equal(kept.values, values[:, keep])
    assert torch.equal(kept.weights, weights[:, keep])
    row = posterior[1]
    assert row.values is not None
    assert torch.equal(row.values, values[:, 1])
    flat = posterior.flattened()
    assert flat.values is not None
    assert torch.equal(flat.values, values.flatten(1, 2))
    assert torch.equal(flat.mean, posterior.mean.flatten(0, 1))
    few = Posterior.among(values)
    assert torch.equal(few.points(2), values)
    assert few.points(2).shape == posterior.points(4).shape


def test_ids_have_no_mean_and_stand_for_themselves() -> None:
    ids = torch.tensor([[[7, 8]], [[9, 10]]])
    posterior = Posterior.among(ids)
    assert torch.equal(posterior.mean, ids[0])
    assert set(map(tuple, posterior.sample(40)[:, 0].tolist())) == {(7, 8), (9, 10)}
