from __future__ import annotations

import pytest
import torch

from calmkit.images.measures.manifold import PrecisionRecall, covered, precision_and_recall


def test_precision_and_recall_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])  # nearest other at 1, 1, 1, 1, 7
    drawn = torch.tensor([[-1.5], [-0.5], [3.5], [20.0]])  # at 1, 1, 4, 16.5
    assert covered(drawn, real, 1).tolist() == [False, True, True, False]
    assert covered(real, drawn, 1).tolist() == [True, True, True, True, True]
    precision, recall = precision_and_recall(real, drawn, 1)
    assert (precision.value, recall.value) == (0.5, 1.0)
    # with two neighbours the spheres reach 2, 1, 1, 2, 8, and cover -1.5 too
    assert covered(drawn, real, 2).tolist() == [True, True, True, False]


def test_a_set_is_covered_by_itself() -> None:
    features = torch.randn(50, 8)
    precision, recall = precision_and_recall(features, features)
    assert precision.value == recall.value == 1


def test_one_is_the_other_with_the_sets_changed() -> None:
    real, drawn = torch.randn(50, 4), 0.5 * torch.randn(40, 4)
    precision, recall = precision_and_recall(real, drawn)
    swapped = precision_and_recall(drawn, real)
    assert (swapped[0], swapped[1]) == (recall, precision)
    assert precision.value > recall.value  # a narrow model: what it draws is real, but not all is drawn
    far = precision_and_recall(real, drawn + 100)
    assert far[0].value == far[1].value == 0


def test_updates_in_any_parts_give_the_same() -> None:
    real, drawn = torch.randn(1100, 3), torch.randn(30, 3)
    metric = PrecisionRecall()
    for part in real.split(400):
        metric.update(part, real=True)
    metric.update(drawn[:5], real=False)
    metric.update(drawn[5:], real=False)
    found = metric.compute()
    precision, recall = precision_and_recall(real, drawn)
    assert {name: value.item() for name, value in found.items()} == precision.named(
        "precision"
    ) | recall.named("recall")


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 nearest others of each image, and a set holds 3"):
        precision_and_recall(torch.randn(9, 2), torch.randn(3, 2))
    metric = PrecisionRecall()
    metric.update(torch.randn(9, 2), real=True)
    with pytest.raises(ValueError, match="of one there are none"):
        metric.compute()
