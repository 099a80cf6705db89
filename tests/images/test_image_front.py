"""What a person may ask a trained model of images for, from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calmkit.images.front import ImageModel
from calmkit.training.run import Run


@pytest.fixture
def model(digits: Path) -> ImageModel:
    return Run(digits / "first").load(device="cpu")


@pytest.mark.parametrize("num", [0, -1])
@pytest.mark.parametrize("condition", [None, {"label": 3}, {"label": []}])
def test_no_image_at_all_is_refused(model: ImageModel, num: int, condition: Any) -> None:
    with pytest.raises(ValueError, match=f"at least one image can be asked for, got {num}"):
        model.generate(num, condition=condition)


@pytest.mark.parametrize("label", [3, "3", np.int64(3), torch.tensor(3)])
def test_one_label_is_that_of_all_images_in_whatever_it_is_written(model: ImageModel, label: Any) -> None:
    assert model.labels(2, {"label": label}).tolist() == [3, 3]  # type: ignore[union-attr]


@pytest.mark.parametrize("labels", [[3, 7], ("3", 7), np.array([3, 7]), torch.tensor([3, 7])])
def test_labels_may_be_one_each(model: ImageModel, labels: Any) -> None:
    assert model.labels(2, {"label": labels}).tolist() == [3, 7]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (3.7, "3.7"),
        ([3, 3.7], "3.7"),
        (torch.tensor(3.7, dtype=torch.float64), "3.7"),
        (torch.tensor([3.0, 7.0]), "3.0"),
        ([None, 1], "None"),
        ([[1], [2]], r"\[1\]"),
    ],
)
def test_a_label_that_is_no_whole_number_is_refused_and_not_cut_off(
    model: ImageModel, label: Any, told: str
) -> None:
    with pytest.raises(ValueError, match=f"a label is a name or a whole number, got {told}"):
        model.labels(2, {"label": label})
