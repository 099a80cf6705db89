"""Scales by hand and in closed form, and when there are none."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import EventSpec, Posterior
from calmkit.transforms.normalise import NormaliseTransform
from calmkit.transforms.seen import NORMAL_IQR, Reservoir

GRID = (torch.arange(50_000) + 0.5) / 50_000
"""Probabilities: the quantiles of a law at them are as near to its own as makes no difference."""


def fitted(values: Tensor, **settings: object) -> NormaliseTransform:
    transform = NormaliseTransform(EventSpec(values.shape[-1:]), None, **settings)  # type: ignore[arg-type]
    transform.fit([values])
    return transform


def column(values: Tensor) -> Tensor:
    return values.reshape(1, -1, 1)


def test_mean_and_standard_deviation_by_hand() -> None:
    # 0, 2, 4, 6: mean 3, variance (9 + 1 + 1 + 9) / 4 = 5. The second dimension: mean 10, variance 0.25 * 5.
    values = torch.tensor([[[0.0, 8.5], [2.0, 9.5]], [[4.0, 10.5], [6.0, 11.5]]])
    transform = fitted(values)
    torch.testing.assert_close(transform.center, torch.tensor([3.0, 10.0]))
    torch.testing.assert_close(transform.scale, torch.tensor([math.sqrt(5), math.sqrt(1.25)]))
    out, log_det = transform(values)
    torch.testing.assert_close(out[1, 1], torch.tensor([3 / math.sqrt(5), 1.5 / math.sqrt(1.25)]))
    torch.testing.assert_close(log_det, torch.full((2, 2), -0.5 * math.log(5 * 1.25)))
    # all eight values: mean 6.5, mean square (0 + 4 + 16 + 36 + 72.25 + 90.25 + 110.25 + 132.25) / 8 = 57.625
    one = fitted(values, per="all")
    torch.testing.assert_close(one.center, torch.tensor([6.5]))
    torch.testing.assert_close(one.scale, torch.tensor([math.sqrt(57.625 - 6.5**2)]))
    torch.testing.assert_close(one(values)[1][0, 0], -2 * one.scale.log()[0])


def test_quartiles_by_hand() -> None:
    # 0, 1, 2, 3, 400: the quartiles are 1 and 3 whatever the last one is.
    transform = fitted(column(torch.tensor([3.0, 400.0, 0.0, 2.0, 1.0])), method="robust")
    assert transform.center.item() == 2.0
    torch.testing.assert_close(transform.scale, torch.tensor([2 / 1.3489795003921634]))
    # two dimensions as one: 0, 1, 2, 3 and 10, 11, 12, 13: quartiles at 1.75 and 11.25, median 6.5
    both = torch.stack([torch.arange(4.0), 10 + torch.arange(4.0)], -1)[None]
    one = fitted(both, method="robust", per="all")
    assert one.center.item() == 6.5
    torch.testing.assert_close(one.scale, torch.tensor([9.5 / 1.3489795003921634]))


def test_the_robust_scale_of_a_normal_law_is_one() -> None:
    transform = fitted(column(torch.special.ndtri(GRID)), method="robust")
    assert transform.scale.item() == pytest.approx(1, abs=1e-4)
    assert pytest.approx(2 * torch.special.ndtri(torch.tensor(0.75)).item(), abs=1e-15) == NORMAL_IQR


def test_the_robust_scale_of_heavy_tails_is_that_of_the_bulk() -> None:
    # Student's t with 3 degrees of freedom; its quantiles by halving, from the distribution in closed form.
    low, high = torch.full_like(GRID, -100.0), torch.full_like(GRID, 100.0)
    for _ in range(60):
        x = (low + high) / 2
        u = x / math.sqrt(3)
        below = 0.5 + (u / (1 + u * u) + u.atan()) / math.pi < GRID
        low, high = torch.where(below, x, low), torch.where(below, high, x)
    # the 75 % quantile is 0.764892; from 0.25 to 0.75 percent, divided by the same, it would be 1.78
    transform = fitted(column(low), method="robust")
    assert transform.scale.item() == pytest.approx(0.7648923284 / 0.6744897502, abs=1e-4)  # 1.1340
    assert fitted(column(low)).scale.item() > 1.6  # its standard deviation is the root of 3


@pytest.mark.parametrize("method", ["standard", "robust"])
def test_how_the_values_are_cut_into_batches_does_not_matter(method: str) -> None:
    values = 5 + 3 * torch.randn(60, 2, 4)
    whole = fitted(values, method=method)
    cut = NormaliseTransform(EventSpec((4,)), None, method=method)  # type: ignore[arg-type]
    cut.fit(iter([values[:1], values[1:8], values[8:8], values[8:]]))
    torch.testing.assert_close(cut.center, whole.center)
    torch.testing.assert_close(cut.scale, whole.scale)
    if method == "standard":
        torch.testing.assert_close(whole.scale, values.flatten(0, 1).std(0, correction=0))


def test_a_far_center_costs_no_digits() -> None:
    transform = fitted(column(1e8 + torch.tensor([0.0, 1.0, 0.0, 1.0])))
    assert transform.scale.item() == pytest.approx(0.5, rel=1e-7)


@pytest.mark.parametrize("method", ["standard", "robust"])
def test_a_dimension_that_does_not_vary_is_only_centered(method: str) -> None:
    values = torch.stack([torch.full((1, 999), 0.1), torch.arange(999.0)[None]], -1)
    for dtype in (torch.float32, torch.float64):
        transform = fitted(values.to(dtype), method=method)
        assert transform.scale[0] == 1
        assert transform.scale[1] > 200
        torch.testing.assert_close(transform.center[0], values.to(dtype)[0, 0, 0].double())


def test_a_gaussian_is_moved_and_scaled() -> None:
    transform = fitted(column(torch.tensor([0.0, 2.0, 4.0, 6.0])))  # center 3, scale sqrt(5)
    given = Posterior(torch.tensor([[8.0]]), torch.tensor([[math.log(5.0)]]))
    found = transform.posterior(given)
    torch.testing.assert_close(found.mean, torch.tensor([[math.sqrt(5)]]))
    assert found.log_std is not None
    torch.testing.assert_close(found.log_std.exp(), torch.tensor([[math.sqrt(5)]]))


def test_a_second_fit_forgets_the_first() -> None:
    transform = fitted(column(torch.arange(4.0)))
    transform.fit([column(torch.tensor([10.0, 12.0]))])
    assert (transform.center.item(), transform.scale.item()) == (11.0, 1.0)


def test_without_a_fit_it_says_what_to_do_and_saved_weights_are_a_fit() -> None:
    fresh, z = NormaliseTransform(EventSpec((1,)), None), column(torch.arange(4.0))
    for call in (fresh, fresh.inverse, lambda z: fresh.posterior(Posterior(z))):
        with pytest.raises(RuntimeError, match=r"normalise is not fitted.*fit it to values of the training"):
            call(z)
    fresh.load_state_dict(fitted(z).state_dict())
    torch.testing.assert_close(fresh(z)[0], fitted(z)(z)[0])
    fresh.load_state_dict(NormaliseTransform(EventSpec((1,)), None).state_dict())
    with pytest.raises(RuntimeError, match="not fitted"):
        fresh(z)


def test_values_that_nothing_can_be_read_from_are_refused() -> None:
    transform = NormaliseTransform(EventSpec((1,)), None)
    with pytest.raises(ValueError, match="normalise: fit was given no values"):
        transform.fit([])
    good, bad = torch.ones(1, 2, 1), torch.tensor([[[0.0], [math.nan]]])
    with pytest.raises(ValueError, match="normalise: batch 1 holds values that are not finite"):
        transform.fit([good, bad])
    assert not transform.fitted


def test_what_cannot_be_built_is_refused() -> None:
    event = EventSpec((3,))
    with pytest.raises(ValueError, match="normalise: reservoir must be at least 1, got 0"):
        NormaliseTransform(event, None, reservoir=0)
    with pytest.raises(ValueError, match="normalise: event must be one latent vector"):
        NormaliseTransform(EventSpec((3,), vocab_size=9), None)


def test_a_reservoir_is_bounded_and_favours_nothing() -> None:
    """False alarm 2e-8: ten counts, each within six standard deviations of what a fair sample has."""
    kept = torch.zeros(10)
    for seed in range(400):
        reservoir = Reservoir(100, seed)
        for batch in torch.arange(1000.0)[:, None].split(37):
            reservoir.add(batch)
            assert reservoir.rows is not None
            assert len(reservoir.rows) <= 100
        assert len(set(reservoir.rows.flatten().tolist())) == 100
        kept += torch.histc(reservoir.rows, 10, 0, 1000)
    # a tenth of the values: hypergeometric, mean 10 and variance 100 * 0.1 * 0.9 * 900 / 999 per sample
    assert (kept - 4000).abs().max() < 6 * math.sqrt(400 * 9 * 900 / 999)


def test_a_fit_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    fitted(torch.randn(1, 50, 2, generator=torch.Generator().manual_seed(1)), method="robust", reservoir=9)
    assert torch.equal(before, torch.get_rng_state())
