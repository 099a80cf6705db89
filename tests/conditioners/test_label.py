"""The label in front of a row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from calmkit.conditioners.label import LabelConditioner

H, LABELS = 4, 3
NONE = torch.zeros(3, dtype=torch.bool)


def test_labels_are_looked_up_and_dropped_ones_replaced() -> None:
    part = LabelConditioner(H, LABELS, length=2)
    drop = torch.tensor([False, True, False])
    prefix = part({"label": torch.tensor([2, 0, 1])}, drop)
    for row, index in enumerate((2, LABELS, 1)):  # the vector behind all labels is that of none
        assert_close(prefix[row], part.embedding.weight[index] + part.position)


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (torch.tensor([0, 3, 1]), "label: there is no label 3; 0 to 2 would do"),
        (torch.tensor([0, -1, 1]), "label: there is no label -1; 0 to 2 would do"),
        (torch.tensor([0.0, 1.0, 1.0]), r"label: labels are torch.float32 of shape \(3,\); one whole number"),
        (
            torch.tensor([[0], [1], [1]]),
            r"shape \(3, 1\); one whole number per row, of shape \(3,\), would do",
        ),
    ],
)
def test_a_label_that_does_not_exist_is_refused(label: Tensor, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LabelConditioner(H, LABELS)({"label": label}, NONE)


def test_the_label_of_a_dropped_row_does_not_matter() -> None:
    part, drop = LabelConditioner(H, LABELS), torch.tensor([False, True, True])
    odd, plain = (part({"label": torch.tensor([0, *rest])}, drop) for rest in ((99, -5), (1, 1)))
    assert torch.equal(odd, plain)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"drop": 1.0}, r"label: drop must be in \[0, 1\), got 1.0"),
        ({"length": 0}, "label: length must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LabelConditioner(H, LABELS, **settings)  # type: ignore[arg-type]


def test_data_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="label: num_labels must be at least 1, got 0"):
        LabelConditioner(H, 0)
