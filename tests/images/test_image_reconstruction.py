from __future__ import annotations

import math

import pytest
import torch

from calmkit.images.reconstruction import ImageReconstruction


def test_numbers_by_hand() -> None:
    """Errors of .2 and of .4 through draws: mse (.04 + .16) / 2 = .1, 16.02 dB; .2 through means: 20 dB.

    The third image only fills the batch.
    """
    images = torch.zeros(3, 1, 2, 2)
    drawn, mean = images.clone(), images.clone()
    drawn[0], drawn[1], drawn[2] = 0.2, -0.4, 1.0
    mean[:2], mean[2] = 0.2, 1.0
    valid = torch.tensor([[True, True], [True, True], [False, False]])
    metric = ImageReconstruction()
    metric.update(images[:1], drawn[:1], mean[:1], valid[:1])
    metric.update(images[1:], drawn[1:], mean[1:], valid[1:])
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == pytest.approx({"psnr": 10 * math.log10(40), "psnr_mean": 20.0, "mse": 0.1})


def test_what_came_back_whole_has_no_error_and_nothing_has_no_number() -> None:
    metric, images = ImageReconstruction(), torch.rand(2, 3, 4, 4)
    metric.update(images, images, images, torch.zeros(2, 4, dtype=torch.bool))
    assert all(math.isnan(value) for value in metric.compute().values())
    metric.update(images, images, images, torch.ones(2, 4, dtype=torch.bool))
    assert {name: value.item() for name, value in metric.compute().items()} == {
        "psnr": math.inf,
        "psnr_mean": math.inf,
        "mse": 0.0,
    }
