"""Left to right: unit after unit, behind what is known."""

from __future__ import annotations

import pytest
import torch

from calmkit.orders.left_to_right import LeftToRight

CPU = torch.device("cpu")


def test_all_real_units_are_known_and_predicted() -> None:
    valid = torch.tensor([[True, True, False]])
    plan = LeftToRight().plan(valid)
    assert torch.equal(plan.known, valid)
    assert torch.equal(plan.predict, valid)


def test_one_unit_after_the_other() -> None:
    order = LeftToRight()
    state, drawn = order.start(2, 3, device=CPU), []
    for _ in range(order.num_steps(3)):
        query = order.query(state)
        drawn.append(query[:, 0].tolist())
        keep, state = order.commit(state, query)
        assert keep.all()
    assert drawn == [[0, 0], [1, 1], [2, 2]]


def test_generation_begins_behind_what_is_known() -> None:
    known = torch.tensor([[True, True, False, False]])
    assert LeftToRight().query(LeftToRight().start(1, 4, known=known, device=CPU)).tolist() == [[2]]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ([[1, 0, 1]], "left_to_right: a unit is known behind one that is not, .* order random"),
        ([[1, 1, 1]], "left_to_right: there is no unit to draw"),
        ([[1, 0, 0], [1, 1, 0]], "left_to_right: rows know 1 to 2 units; as many in every row would do"),
        ([[1, 0]], r"left_to_right: known has shape \(1, 2\); \(1, 3\) would do"),
    ],
)
def test_what_it_cannot_go_on_from_is_refused(known: list[list[int]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LeftToRight().start(len(known), 3, known=torch.tensor(known).bool(), device=CPU)
