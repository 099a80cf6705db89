"""The tied mixture: its density by hand, its start from data, its draws, its weights under a temperature."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.heads import tied_mixture
from calmkit.heads.tied_mixture import TiedMixtureHead
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions

WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
LOC = torch.tensor([[0.0, 0.0], [1.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
SCALE = torch.tensor([[1.0, 1.0], [0.5, 2.0], [0.3, 0.7]], dtype=torch.float64)


def fixed_head(offset: bool = True) -> TiedMixtureHead:
    """A head of known weights, places and widths, whatever the condition."""
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=3, depth=1, offset=offset).double()
    torch.nn.init.zeros_(head.network.write.weight)
    head.network.write.bias.data[:3] = WEIGHTS.log() + 0.7  # what is added to all of them must not matter
    head.loc.data, head.log_scale.data = LOC.flatten(), SCALE.log().flatten()
    return head


def by_hand(z: Tensor) -> Tensor:
    normal = torch.distributions.Normal(LOC, SCALE)
    return (WEIGHTS.log() + normal.log_prob(z.double().unsqueeze(-2)).sum(-1)).logsumexp(-1)


def test_the_density_is_that_of_the_mixture() -> None:
    z = torch.cat([torch.randn(20, 2), torch.tensor([[1e3, 1e3]])])  # and far from every component
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = fixed_head().to(dtype).log_prob(Context(torch.randn(21, 4, dtype=dtype)), z.to(dtype))
        torch.testing.assert_close(found.double(), by_hand(z), rtol=tolerance, atol=10 * tolerance)


def test_an_offset_moves_all_places_of_a_unit() -> None:
    head, z, by = fixed_head(), torch.randn(5, 2).double(), torch.tensor([0.3, -2.0]).double()
    head.network.write.bias.data[3:] = by
    context = Context(torch.randn(5, 4).double())
    torch.testing.assert_close(head.log_prob(context, z + by), by_hand(z))
    generator = torch.Generator().manual_seed(0)
    moved = head.sample(context, 3, SampleOptions(generator=generator))
    still = fixed_head().sample(context, 3, SampleOptions(generator=generator.manual_seed(0)))
    torch.testing.assert_close(moved, still + by)


def test_the_loss_is_the_mean_over_posterior_draws() -> None:
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=6, depth=1, repeats=3).double()
    context, mean = Context(torch.randn(2, 5, 4).double()), torch.randn(2, 5, 2).double()
    target = Posterior(mean, torch.full_like(mean, -1.0))
    torch.manual_seed(3)
    loss = head.loss(context, target)
    torch.manual_seed(3)
    draws = target.sample(3)
    torch.testing.assert_close(loss, -torch.stack([head.log_prob(context, z) for z in draws]).mean(0))


def test_blocks_of_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=6, depth=1, repeats=2).double()
    h, target = torch.randn(11, 4).double(), Posterior(torch.randn(11, 2).double())
    found = []
    for size in (2**20, 6 * 2 * 3):  # all at once, and three units at a time
        monkeypatch.setattr(tied_mixture, "BLOCK_ELEMENTS", size)
        loss = head.loss(Context(h), target)
        gradients = torch.autograd.grad(loss.sum(), list(head.parameters()))
        found.append([loss.detach(), *gradients])
    for whole, blocks in zip(*found, strict=True):
        torch.testing.assert_close(whole, blocks)


def test_draws_follow_the_density() -> None:
    """Mean and covariance of the mixture, by hand from its components; 6 standard errors of 10^5 draws, five
    times, are a false alarm below 1e-8.
    """
    draws = fixed_head().sample(Context(torch.randn(4).double()), 100_000)
    mean = (WEIGHTS[:, None] * LOC).sum(0)
    second = (WEIGHTS[:, None, None] * (torch.diag_embed(SCALE**2) + LOC[:, :, None] * LOC[:, None])).sum(0)
    products = (draws[:, :, None] * draws[:, None]).flatten(1)
    for values, expected in ((draws, mean), (products, second.flatten())):
        tolerance = 6 * values.std(0) / len(values) ** 0.5
        assert ((values.mean(0) - expected).abs() < tolerance).all()


def test_a_temperature_raises_the_weights_to_a_power() -> None:
    sharp = WEIGHTS**2 / (WEIGHTS**2).sum()
    log_weights, values = fixed_head().weighted_draws(Context(torch.randn(7, 4).double()), SampleOptions(0.5))
    torch.testing.assert_close(log_weights.exp(), sharp.expand(7, 3))
    assert values.shape == (3, 7, 2)
    head = fixed_head()
    head.log_scale.data.fill_(math.log(1e-3))
    draws = head.sample(Context(torch.randn(4).double()), 20_000, SampleOptions(0.5))
    at = ((draws.unsqueeze(1) - LOC).norm(dim=-1) < 0.1).double().mean(0)
    tolerance = 6 * (sharp * (1 - sharp) / 20_000).sqrt()  # false alarm below 1e-8
    assert ((at - sharp).abs() < tolerance).all()


def test_it_starts_at_the_commonest_units_weighted_as_often_as_they_occur() -> None:
    kinds = torch.randn(5, 2)
    often = torch.tensor([4, 4, 4, 4, 1, 0, 0, 3, 3, 4])  # 4 five times, 0 and 3 twice, 1 once
    log_std = torch.full((10, 2), -2.0)
    jitter = 1e-6 * torch.randn(10, 2)  # as sums of another order differ
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=3, depth=1)
    head.start(Posterior((kinds[often] * 1e3).round() / 1e3 + jitter, log_std))
    where = (head.places.unsqueeze(1) - kinds).norm(dim=-1).argmin(1).tolist()
    assert where[0] == 4
    assert set(where) == {4, 0, 3}
    torch.testing.assert_close(head.network.write.bias[:3].exp(), torch.tensor([5.0, 2.0, 2.0]) / 9)
    torch.testing.assert_close(head.log_scale.exp(), torch.full((6,), 1.5 * math.exp(-2)))
    assert not head.network.write.bias[3:].any()  # of the offset


def test_it_starts_from_fewer_units_than_components_and_from_points() -> None:
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=7, depth=1)
    head.start(Posterior(torch.tensor([[0.0, 1.0], [4.0, 1.0]])))
    assert torch.isfinite(head.loc).all()
    assert len(head.places.unique(dim=0)) == 7  # those that are left over lie beside the two
    scale = head.log_scale.view(7, 2).exp()
    torch.testing.assert_close(scale[:, 0], torch.full((7,), 1.5 * 0.25 * 2.0))
    torch.testing.assert_close(scale[:, 1], torch.full((7,), head.min_scale))  # no spread at all
    torch.testing.assert_close(head.network.write.bias[:7].exp().sum(), torch.tensor(1.0))


def test_of_units_that_occur_equally_often_it_starts_at_those_that_were_read_first() -> None:
    """And not at those of the smallest values, which `unique` gives first."""
    means = torch.randn(50, 2)
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=20, depth=1)
    head.start(Posterior(torch.cat([means, means[40:41]]), torch.full((51, 2), -2.0)))
    torch.testing.assert_close(head.places.detach(), torch.cat([means[40:41], means[:19]]))


def test_components_of_one_unit_share_its_weight() -> None:
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=5, depth=1)
    mean = torch.tensor(
        [[0.0, 0.0], [9.0, 9.0], [9.0, 9.0]]
    )  # 9 begins, as it is commoner: places 0, 2 and 4
    head.start(Posterior(mean, torch.full_like(mean, -4.0)))
    shares = torch.tensor([2 / 9, 1 / 6, 2 / 9, 1 / 6, 2 / 9])
    torch.testing.assert_close(head.network.write.bias[:5].exp(), shares)


def test_places_and_widths_are_no_matrices_that_weight_decay_would_shrink() -> None:
    decayed = {n for n, p in TiedMixtureHead(4, EventSpec((2,)), depth=1).named_parameters() if p.ndim >= 2}
    assert decayed
    assert all(name.startswith("network.") for name in decayed)


def test_weights_of_half_precision_have_the_density_that_they_say() -> None:
    """bfloat16 holds these places, but not their differences from the middle of all: by several widths."""
    head = TiedMixtureHead(4, EventSpec((2,)), num_components=8, depth=1)
    torch.nn.init.zeros_(head.network.write.weight)
    head.loc.data = 20 * torch.randn(16)
    head.log_scale.data.fill_(-4.0)
    head.bfloat16()
    z = head.places.detach().clone()
    found = head.log_prob(Context(torch.randn(8, 4).bfloat16()), z)
    expected = head.double().log_prob(Context(torch.randn(8, 4).double()), z.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1.0)


@pytest.mark.parametrize(("setting", "value"), [("num_components", 0), ("repeats", 0), ("min_scale", 0.0)])
def test_a_setting_out_of_range_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"tied_mixture: {setting}"):
        TiedMixtureHead(4, EventSpec((2,)), **{setting: value})
