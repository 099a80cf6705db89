"""The likelihood under Gaussians around draws: by hand, against torch, and its best scale."""

from __future__ import annotations

import math

import pytest
import torch
from laws import six_sigma
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from calmkit.heads.draw_likelihood import draw_log_prob


def test_two_draws_by_hand() -> None:
    """Draws 0 and 2, value 0, scale 1: log((1 + exp(-2)) / 2 / sqrt(2 pi)); and at scale 2, twice as wide."""
    draws, z = torch.tensor([0.0, 2.0]).reshape(2, 1, 1), torch.zeros(1, 1)
    for scale, far in ((1.0, math.exp(-2.0)), (2.0, math.exp(-0.5))):
        value = draw_log_prob(draws, z, torch.tensor([scale]).log())
        assert value.item() == pytest.approx(math.log((1 + far) / 2 / (scale * math.sqrt(2 * math.pi))))


def test_it_is_the_mixture_that_torch_has() -> None:
    draws, z = torch.randn(5, 7, 3, requires_grad=True), torch.randn(7, 3)
    log_scale = torch.tensor([-0.4], requires_grad=True)
    around = Independent(Normal(draws.transpose(0, 1), log_scale.exp()), 1)
    expected = MixtureSameFamily(Categorical(logits=torch.zeros(7, 5)), around).log_prob(z)
    torch.testing.assert_close(draw_log_prob(draws, z, log_scale), expected)
    assert torch.autograd.gradcheck(lambda x, s: draw_log_prob(x, z, s), (draws, log_scale))


def test_the_nearest_draw_is_pulled_and_a_far_one_is_left_alone() -> None:
    """(x - z) / scale^2 = (0 - 1) / 4 for the draw at 0; the one at 100 has a share of exp(-1225)."""
    draws = torch.tensor([0.0, 100.0]).reshape(2, 1, 1).requires_grad_()
    (-draw_log_prob(draws, torch.ones(1, 1), torch.tensor([2.0]).log())).sum().backward()
    assert draws.grad is not None
    assert draws.grad.flatten().tolist() == pytest.approx([-0.25, 0.0], abs=1e-12)


def test_the_best_scale_around_a_point_is_that_of_the_values() -> None:
    """Values N(0, 0.6^2 I), all draws at 0: the expected slope in log scale is D (1 - 0.36 / scale^2), 0 at
    0.6. False alarm 1e-8 each.
    """
    z = 0.6 * torch.randn(4000, 3)
    for scale, expected in ((0.6, 0.0), (1.2, 3 * 0.75), (0.3, -9.0)):
        below, above = (
            draw_log_prob(torch.zeros(2, 4000, 3), z, torch.tensor([scale]).log() + step)
            for step in (-1e-5, 1e-5)
        )
        slopes = (below - above) / 2e-5
        assert slopes.mean().item() == pytest.approx(expected, abs=six_sigma(slopes))


def test_half_precision_is_computed_in_float32() -> None:
    draws, z = torch.randn(4, 6, 3).bfloat16(), torch.randn(6, 3).bfloat16()
    values = draw_log_prob(draws, z, torch.zeros(1).bfloat16())
    assert values.dtype == torch.float32
    torch.testing.assert_close(
        values.double(), draw_log_prob(draws.double(), z.double(), torch.zeros(1)), rtol=1e-5, atol=1e-5
    )
