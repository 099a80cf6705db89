"""Random order: what training hides, and the order of a generation."""

from __future__ import annotations

import pytest
import torch

from calmkit.orders.random import RandomOrder

CPU = torch.device("cpu")


def test_hidden_counts_follow_the_cut_normal_law() -> None:
    rows = 30_000
    predict = RandomOrder().plan(torch.ones(rows, 10, dtype=torch.bool)).predict
    # ratio ~ N(1, 1/16) cut to [0.7, 1]: 8 hidden units are a ratio in (0.7, 0.8], that is -1.2 to -0.8
    # standard deviations, of the -1.2 to 0 that are left. Phi: .11507, .21186, .34458, .5.
    wanted = [(0.21186 - 0.11507) / 0.38493, (0.34458 - 0.21186) / 0.38493, (0.5 - 0.34458) / 0.38493]
    share = torch.bincount(predict.sum(1), minlength=11).double() / rows
    for count, probability in zip((8, 9, 10), wanted, strict=True):
        # six standard errors: false alarm below 1e-8
        assert abs(share[count] - probability) < 6 * (probability * (1 - probability) / rows) ** 0.5
    assert share[:8].sum() == 0


def test_a_wide_spread_hides_all_numbers_of_units_alike() -> None:
    rows = 30_000
    predict = RandomOrder(spread=100.0).plan(torch.ones(rows, 10, dtype=torch.bool)).predict
    share = torch.bincount(predict.sum(1), minlength=11)[8:].double() / rows
    # a ratio in (0.7, 0.8], (0.8, 0.9] or (0.9, 1]; six standard errors: false alarm below 1e-8
    assert (share - 1 / 3).abs().max() < 6 * (2 / 9 / rows) ** 0.5


def test_rows_hide_different_numbers_of_units() -> None:
    predict = RandomOrder().plan(torch.ones(50, 256, dtype=torch.bool)).predict
    assert len(set(predict.sum(1).tolist())) > 10


def test_steps_take_what_the_schedule_says() -> None:
    order = RandomOrder(steps=4)
    state, drawn = order.start(3, 16, device=CPU), []
    for _ in range(order.num_steps(16)):
        drawn.append(order.query(state))
        keep, state = order.commit(state, drawn[-1])
        assert keep.all()
    assert [query.shape[1] for query in drawn] == [2, 3, 5, 6]
    units = torch.cat(drawn, 1)
    assert torch.equal(units.sort(1).values, torch.arange(16).expand(3, -1))
    assert not torch.equal(units[0], units[1])


def test_all_orders_are_drawn_alike() -> None:
    rows = 30_000
    units = RandomOrder().start(rows, 3, device=CPU).units
    shares = torch.bincount(units[:, 0] * 3 + units[:, 1], minlength=9).double() / rows  # the third follows
    wanted = (1 - torch.eye(3)).flatten() / 6
    # six standard errors: false alarm below 1e-7 for all six
    assert (shares - wanted).abs().max() < 6 * (5 / 36 / rows) ** 0.5


def test_known_units_are_left_alone() -> None:
    known = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0]]).bool()
    state = RandomOrder(steps=2).start(2, 6, known=known, device=CPU)
    assert state.counts == (2, 2)  # of the four that are left
    assert state.units.sort(1).values.tolist() == [[1, 2, 4, 5], [0, 1, 3, 5]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": 0}, "random: steps must be at least 1, got 0"),
        ({"least_hidden": 0.0}, r"random: least_hidden must be in \(0, 1\], got 0.0; 0.7 would do"),
        ({"least_hidden": 1.5}, "random: least_hidden"),
        ({"spread": 0.0}, r"random: spread must be above 0 and finite, got 0\.0; 0\.25 would do"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        RandomOrder(**settings)  # type: ignore[arg-type]


def test_more_steps_than_unknown_units_are_refused() -> None:
    with pytest.raises(ValueError, match="steps is 5, yet only 4 units"):
        RandomOrder(steps=5).num_steps(4)
    known = torch.tensor([[True, True, False]])
    with pytest.raises(ValueError, match="steps is 2, yet only 1 units"):
        RandomOrder(steps=2).start(1, 3, known=known, device=CPU)
    with pytest.raises(ValueError, match="rows know 0 to 1 units"):
        RandomOrder().start(2, 2, known=torch.tensor([[True, False], [False, False]]), device=CPU)
