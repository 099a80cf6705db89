"""What training hides: as many units as the ratio says, real ones, any of them."""

from __future__ import annotations

import torch

from calmkit.orders.hide import hide


def test_the_share_is_rounded_up_and_never_nothing() -> None:
    valid = torch.tensor(
        [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    )
    plan = hide(valid.bool(), torch.tensor([0.5, 0.5, 0.5, 0.5, 0.0]))
    assert plan.predict.sum(1).tolist() == [
        3,
        2,
        1,
        0,
        1,
    ]  # ceil(2.5), ceil(2), ceil(.5), nothing, at least one
    assert torch.equal(plan.known, valid.bool() & ~plan.predict)


def test_all_sets_of_a_size_are_hidden_alike() -> None:
    rows = 30_000
    plan = hide(torch.tensor([[1, 1, 0, 1]]).bool().expand(rows, -1), torch.full((rows,), 0.5))
    share = plan.predict.double().mean(0)
    assert share[2] == 0
    # 2 of 3 are hidden; six standard errors: false alarm below 1e-8
    assert (share[[0, 1, 3]] - 2 / 3).abs().max() < 6 * (2 / 9 / rows) ** 0.5


def test_the_default_dtype_changes_no_plan() -> None:
    valid, plans = torch.ones(3, 16, dtype=torch.bool), []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        torch.manual_seed(1)
        plans.append(hide(valid, torch.full((3,), 0.6, dtype=torch.float32)).predict)
    assert torch.equal(plans[0], plans[1])
    assert torch.equal(plans[0], plans[2])
