"""Confidence: all unknown units are drawn, the surest are kept."""

from __future__ import annotations

import math

import pytest
import torch

from calmkit.orders.confidence import ConfidenceOrder

CPU = torch.device("cpu")


def test_the_best_scores_are_kept_by_hand() -> None:
    order = ConfidenceOrder(steps=2, choice_temperature=0.0)  # 4 units in 2 steps: 2 and 2
    state = order.start(2, 4, device=CPU)
    query = order.query(state)
    assert query.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    keep, state = order.commit(state, query, torch.tensor([[0.1, 0.9, 0.5, 0.3], [7.0, -9.0, -8.0, 8.0]]))
    assert keep.tolist() == [[False, True, True, False], [True, False, False, True]]
    query = order.query(state)
    assert query.tolist() == [[0, 3], [1, 2]]
    keep, _ = order.commit(state, query, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert keep.all()


def test_what_is_known_is_not_asked_again() -> None:
    known = torch.tensor([[False, True, False, False, True]])
    order = ConfidenceOrder(choice_temperature=0.0)
    state = order.start(1, 5, known=known, device=CPU)
    query = order.query(state)
    assert query.tolist() == [[0, 2, 3]]
    keep, state = order.commit(state, query, torch.tensor([[-1.0, 2.0, 1.0]]))
    assert keep.tolist() == [[False, True, False]]
    assert order.query(state).tolist() == [[0, 3]]


def test_choices_are_softened_by_the_temperature_that_is_left() -> None:
    # In step 1 of 3 two thirds are left. The best of three scores with Gumbel noise times 2/3 * 3 is i with
    # probability softmax(score / 2)_i: e, 1 and 1/e over their sum, .665, .245 and .090.
    rows, order = 30_000, ConfidenceOrder(choice_temperature=3.0)
    state = order.start(rows, 3, device=CPU)
    keep, _ = order.commit(state, order.query(state), torch.tensor([[2.0, 0.0, -2.0]]).expand(rows, -1))
    wanted = torch.tensor([math.e, 1.0, 1 / math.e]) / (math.e + 1 + 1 / math.e)
    # six standard errors: false alarm below 1e-8
    assert ((keep.double().mean(0) - wanted).abs() < 6 * (wanted * (1 - wanted) / rows).sqrt()).all()


def test_the_last_step_keeps_all_whatever_the_scores() -> None:
    order = ConfidenceOrder(steps=1, choice_temperature=100.0)
    state = order.start(1, 3, device=CPU)
    keep, _ = order.commit(state, order.query(state), torch.tensor([[-math.inf, 0.0, math.inf]]))
    assert keep.all()


def test_hidden_counts_follow_the_cosine_law() -> None:
    # Of 2 units one is hidden where cos(pi u / 2) <= 1/2, that is u >= 2/3, of u in [0, 0.7): 1 in 21.
    rows = 30_000
    counts = ConfidenceOrder().plan(torch.ones(rows, 2, dtype=torch.bool)).predict.sum(1)
    share = (counts == 1).double().mean().item()
    # six standard errors: false alarm below 1e-8
    assert abs(share - 1 / 21) < 6 * (20 / 441 / rows) ** 0.5
    assert counts.min() == 1


def test_training_sees_all_of_a_generation_where_asked() -> None:
    valid = torch.ones(3000, 16, dtype=torch.bool)
    assert ConfidenceOrder().plan(valid).predict.sum(1).min() == 8  # ceil(16 * cos(.35 pi)), 7.26
    assert ConfidenceOrder(trained_progress=1.0).plan(valid).predict.sum(1).min() == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": 0}, "confidence: steps must be at least 1, got 0"),
        ({"choice_temperature": -1.0}, "confidence: choice_temperature must be at least 0, got -1.0"),
        ({"trained_progress": 0.0}, r"confidence: trained_progress must be in \(0, 1\], got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ConfidenceOrder(**settings)  # type: ignore[arg-type]


def test_draws_without_a_score_are_refused() -> None:
    order = ConfidenceOrder()
    state = order.start(1, 2, device=CPU)
    with pytest.raises(ValueError, match="confidence: draws have no score; the log density of each would do"):
        order.commit(state, order.query(state))
