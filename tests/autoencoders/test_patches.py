from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from calmkit.autoencoders.patches import Patches
from calmkit.interfaces import NotTrainable


def test_raster_order_by_hand() -> None:
    """Pixels counted row by row; two channels, the second ten times the first."""
    rows = torch.arange(16.0).view(4, 4)
    images = torch.stack([rows, 10 * rows]).unsqueeze(0)
    posterior = Patches((2, 4, 4)).encode(images)
    assert posterior.log_std is None
    assert posterior.mean.tolist() == [
        [
            [0, 1, 4, 5, 0, 10, 40, 50],
            [2, 3, 6, 7, 20, 30, 60, 70],
            [8, 9, 12, 13, 80, 90, 120, 130],
            [10, 11, 14, 15, 100, 110, 140, 150],
        ]
    ]


@pytest.mark.parametrize(("shape", "patch"), [((1, 4, 4), 2), ((3, 6, 9), 3), ((2, 5, 4), 1)])
def test_images_come_back_exactly(shape: tuple[int, int, int], patch: int) -> None:
    coder, images = Patches(shape, patch=patch, noise=0.1), torch.rand(5, *shape) * 2 - 1
    z = coder.encode(images).mean
    assert coder.layout == (shape[1] // patch, shape[2] // patch)
    assert z.shape == (5, coder.layout[0] * coder.layout[1], *coder.event.shape)
    assert coder.decode(z).equal(images)
    assert coder.to_data(torch.stack([z, 3 * z])).equal(torch.stack([images, (3 * images).clamp(-1, 1)]))


def test_noise_is_the_width_of_the_posterior_and_leaves_the_mean_alone() -> None:
    images = torch.rand(2000, 1, 4, 4)
    exact, wide = Patches((1, 4, 4)).encode(images), Patches((1, 4, 4), noise=0.25).encode(images)
    assert wide.mean.equal(exact.mean)
    assert wide.log_std is not None
    assert_close(wide.log_std, torch.full_like(wide.mean, math.log(0.25)))
    # 32,000 numbers: the deviation's own is .25 / sqrt(64000) = .001; false alarm below 1e-6
    assert abs((wide.sample()[0] - exact.mean).std().item() - 0.25) < 0.005


def test_what_does_not_fit_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match="got 3 for images of 8 x 8; 1 or 2 or 4 or 8 would do"):
        Patches((1, 8, 8), patch=3)
    with pytest.raises(ValueError, match="got 4 for images of 8 x 6; 1 or 2 would do"):
        Patches((1, 8, 6), patch=4)
    with pytest.raises(ValueError, match="patches: patch must be at least 1, got 0"):
        Patches((1, 8, 8), patch=0)
    with pytest.raises(ValueError, match=r"patches: noise must be at least 0, got -0.1"):
        Patches((1, 8, 8), noise=-0.1)
    with pytest.raises(NotTrainable, match="patches has no parameters"):
        Patches((1, 8, 8)).loss(torch.zeros(1, 1, 8, 8))
