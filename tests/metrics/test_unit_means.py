"""Means over units by hand; blocks, batches and processes; the interval is that of the house."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import HeldOut
from calmkit.metrics.blocks import resampled_means
from calmkit.metrics.unit_means import UnitMeans
from calmkit.testing import units_by_hand
from calmkit.text.metrics.likelihood import Likelihood


def units(rows: list[int], documents: list[int] | None) -> HeldOut:
    count = len(rows)
    known = None if documents is None else torch.tensor(documents)
    made = units_by_hand(torch.zeros(2, count, 1), torch.zeros(count, 1), known)
    return replace(made, rows=torch.tensor(rows))


def numbers(metric: UnitMeans) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}


def test_numbers_by_hand() -> None:
    """Rows of 2 and 1 units, values 1, 3 | 5: the mean is 3, the residuals of the rows 4 - 6 and 5 - 3, so
    se^2 = 2 / 1 * (4 + 4) / 9."""
    metric = UnitMeans()
    metric.update(units([0, 0, 1], None), torch.tensor([1.0, 3.0, 5.0]))
    found = numbers(metric)
    assert (found[""], found["units"], found["blocks"]) == (3, 3, 2)
    assert found["se"] == pytest.approx(4 / 3)
    assert metric.per_group is None
    assert 2 <= found["low"] <= 3 <= found["high"] <= 5


def test_documents_take_the_place_of_rows_where_there_are_ten() -> None:
    held, values = units([0] * 10, list(range(10))), torch.arange(10.0)
    few, many = UnitMeans("a", "b"), UnitMeans("a", "b")
    few.update(units([0] * 9, list(range(9))), values[:9], values[:9])
    many.update(held, values, 2 * values)
    assert numbers(few)["blocks"] == 1  # nine documents of one row
    assert not torch.tensor(numbers(few)["a_se"]).isfinite()
    found = numbers(many)
    assert (found["a"], found["b"], found["blocks"]) == (4.5, 9.0, 10)
    assert found["b_low"] == pytest.approx(2 * found["a_low"])
    drawn = resampled_means(values.double().unsqueeze(1), torch.ones(10).double())
    assert found["a_low"] == pytest.approx(float(drawn.quantile(0.025)))
    assert many.per_group is not None
    assert many.per_group[3].tolist() == [3, 3, 6, 1]  # document, sums, units


def test_a_document_of_two_batches_is_one_block() -> None:
    metric = UnitMeans()
    metric.update(units([0, 0], [7, 8]), torch.tensor([1.0, 2.0]))
    metric.update(units([0], [7]), torch.tensor([3.0]))
    metric.compute()
    assert metric.per_group is not None
    assert metric.per_group.tolist() == [[7, 4, 2], [8, 2, 1]]
    metric.reset()
    warned = pytest.warns(UserWarning, match="before the ``update`` method")  # of torchmetrics, rightly
    with warned, pytest.raises(ValueError, match="UnitMeans saw no unit"):
        metric.compute()


def test_values_that_are_no_unit_each_are_refused() -> None:
    metric = UnitMeans("a", "b")
    with pytest.raises(
        ValueError, match=r"takes 2 tensors of one value for each of the 3 units, got .*\(3,\)"
    ):
        metric.update(units([0, 0, 1], None), torch.zeros(3))


def joined(ours: UnitMeans | Likelihood, theirs: UnitMeans | Likelihood) -> None:
    """Let `ours.compute()` see the state of another process, as torchmetrics gathers it."""
    states: list[Tensor] = []

    def listen(state: Tensor, group: object) -> list[Tensor]:
        del group
        states.append(state)
        return [state]

    theirs.sync(dist_sync_fn=listen, distributed_available=lambda: True)
    ours.dist_sync_fn = lambda state, group: [state, *states]
    ours.distributed_available_fn = lambda: True


def test_two_processes_add_up() -> None:
    one, two = UnitMeans(), UnitMeans()
    one.update(units([0, 0], [1, 2]), torch.tensor([1.0, 2.0]))
    two.update(units([0], [2]), torch.tensor([6.0]))
    joined(one, two)
    assert numbers(one)[""] == 3
    assert one.per_group is not None
    assert one.per_group.tolist() == [[1, 1, 1], [2, 8, 2]]


def test_the_likelihood_of_two_processes_adds_up_too() -> None:
    """What torchmetrics joined is one vector and no list: it was counted as a list once."""
    one, two = Likelihood("exact", 2), Likelihood("exact", 2)
    one.update(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
    two.update(torch.tensor([[5.0]]), torch.tensor([0]))
    joined(one, two)
    assert float(one.compute()["nll_per_token"]) == 1.5
