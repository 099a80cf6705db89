from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace, Normal
from torch.testing import assert_close

from calmkit.nn.pixel_likelihood import pixel_nats, require_width
from calmkit.nn.psnr import psnr


def test_nats_by_hand() -> None:
    """Two pixels that are .2 and 0 away, at width .1: squares give 2 + 0, absolute values 2 + 0.

    Each pixel adds log .1 and half of log 2 pi, or log 2: 2 + 2 (.918939 - 2.302585) and 2 + 2 (.693147 -
    2.302585).
    """
    decoded, data = torch.tensor([[[[0.5, 0.3]]]]), torch.tensor([[[[0.3, 0.3]]]])
    assert_close(pixel_nats(decoded, data, "mse", 0.1), torch.tensor([-0.767293]), atol=1e-6, rtol=0)
    assert_close(pixel_nats(decoded, data, "l1", 0.1), torch.tensor([-1.218876]), atol=1e-6, rtol=0)


def test_nats_are_those_of_torch() -> None:
    decoded, data = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    for name, law in (("mse", Normal(decoded, 0.3)), ("l1", Laplace(decoded, 0.3))):
        assert_close(pixel_nats(decoded, data, name, 0.3), -law.log_prob(data).flatten(1).sum(1))


def test_a_likelihood_without_width_is_refused() -> None:
    require_width("test", 0.01)
    for width in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"test: pixel_width must be above 0, got .*; 0.1 would do."):
            require_width("test", width)


def test_psnr_by_hand() -> None:
    """An error of .2 everywhere is a tenth of the range: 20 dB. Black for white is 0 dB."""
    black = torch.full((2, 1, 3, 3), -1.0)
    assert psnr(black, black + 0.2).item() == pytest.approx(20.0)
    assert psnr(black, -black).item() == 0.0
    assert psnr(black, black).item() == math.inf
