from __future__ import annotations

import math

import pytest
import torch

from calmkit.images.measures.bars import GaussianPerClass, TrainingCopies
from calmkit.images.measures.nearest import NearestTraining, nearest_ratio


def test_draws_have_the_mean_and_the_shrunk_covariance_of_their_class() -> None:
    labels = torch.arange(60) % 2
    images = 0.05 * torch.randn(60, 1, 8, 8) @ torch.randn(8, 8) + (labels - 0.5).view(-1, 1, 1, 1)
    draws = GaussianPerClass(images, labels, shrinkage=0.3).draw(torch.ones(20_000).long(), seed=1)
    rows = images[labels == 1].flatten(1)
    covariance = rows.T.cov()
    wanted = 0.7 * covariance + 0.3 * covariance.trace() / 64 * torch.eye(64)
    along = torch.randn(5, 64)  # variances along a few directions, each known to 1 % of itself
    found = (draws.flatten(1) @ along.T).var(0)
    assert torch.allclose(found, (along @ wanted @ along.T).diagonal(), rtol=0.06)  # false alarm: 1e-8
    error = (draws.flatten(1).mean(0) - rows.mean(0)) / (wanted.diagonal() / 20_000).sqrt()
    assert error.abs().max() < 7  # of 64 standard normal values: 2e-10


def test_a_little_shrinkage_makes_every_direction_possible() -> None:
    images = torch.zeros(4, 1, 8, 8)
    images[:, 0, 0, 0] = torch.tensor([-0.6, -0.2, 0.2, 0.6])  # one pixel varies, 63 don't
    narrow, wide = GaussianPerClass(images, shrinkage=0.0), GaussianPerClass(images)
    asked = torch.zeros(100).long()
    assert narrow.draw(asked).var(0).count_nonzero() == 1
    assert wide.draw(asked).var(0).count_nonzero() == 64


def test_draws_are_images_in_the_order_of_their_labels() -> None:
    images = torch.cat([torch.full((5, 2, 8, 9), 0.5), torch.full((5, 2, 8, 9), -0.5)])
    images = images + 0.01 * torch.randn_like(images)
    bar = GaussianPerClass(images, torch.tensor([0] * 5 + [3] * 5))
    asked = torch.tensor([3, 0, 0, 3, 0])
    drawn = bar.draw(asked, seed=4)
    assert drawn.shape == (5, 2, 8, 9)
    assert (drawn.mean((1, 2, 3)) > 0).tolist() == (asked == 0).tolist()
    assert torch.equal(drawn, bar.draw(asked, seed=4))
    assert not torch.equal(drawn, bar.draw(asked, seed=5))
    bright = GaussianPerClass(torch.ones(5, 1, 8, 8) - torch.rand(5, 1, 8, 8)).draw(torch.zeros(50).long())
    assert bright.max() == 1  # cut, as images are


def test_copies_are_training_images_of_the_label_each_once_before_any_twice() -> None:
    images = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    asked = torch.tensor([1, 1, 0, 1, 1, 1])
    drawn = TrainingCopies(images, labels).draw(asked, seed=2)
    places = [int((images == one).flatten(1).all(1).nonzero()) for one in drawn]
    assert labels[places].tolist() == asked.tolist()
    ones = [place for place, label in zip(places, asked.tolist(), strict=True) if label == 1]
    assert set(ones[:3]) == {1, 3, 5}
    assert ones[3:] == ones[:2]


def test_a_label_that_no_training_image_has_is_refused() -> None:
    images, labels = torch.zeros(4, 1, 8, 8), torch.tensor([0, 2, 2, 5])
    for bar in (GaussianPerClass(images, labels), TrainingCopies(images, labels)):
        with pytest.raises(ValueError, match="has the label 1, which was asked for; there are 0, 2, 5"):
            bar.draw(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        GaussianPerClass(images, labels, shrinkage=2.0)


def test_the_nearest_training_image_by_hand() -> None:
    training = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    images = torch.tensor([0.25, 1.0, -0.5 - 1e-3]).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    far, which = NearestTraining(training).find(images)
    assert which.tolist() == [1, 2, 0]
    assert far.tolist() == pytest.approx([0.25 * 8, 0, 0.499 * 8])  # the root of 64 equal squares


def test_the_ratio_tells_copies_from_new_images() -> None:
    real, drawn = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 2.0, 0.0])
    assert nearest_ratio(real, drawn).value == 0.5
    assert nearest_ratio(real, torch.zeros(4)).value == 0
    assert math.isnan(nearest_ratio(torch.zeros(3), drawn).value)
    both = torch.tensor([[0, 0, 0], [2, 2, 2]]), torch.tensor([[2, 2, 2, 2]] * 2)
    # replicates 2 and 2/3, moved to a mean of 0.5
    found = nearest_ratio(real, drawn, both)
    assert (found.low, found.high) == pytest.approx((0.5 - 0.95 * 2 / 3, 0.5 + 0.95 * 2 / 3))
