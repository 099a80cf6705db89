"""The marginal score: by hand, against quadrature, and what it sees and does not see."""

from __future__ import annotations

import math

import pytest
import torch
from laws import six_sigma
from torch import Tensor

from calmkit.heads import energy_score
from calmkit.heads.energy_score import energy_loss
from calmkit.heads.marginal_score import marginal_loss


def by_quadrature(draws: Tensor, mean: Tensor, log_std: Tensor, repulsion: float) -> Tensor:
    """E|x - y| as a sum over a fine grid of y, 10 deviations to each side; draws word for word."""
    grid = torch.linspace(-10, 10, 4_001)
    weight = (-grid.square() / 2).exp()
    y = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * grid
    cross = ((draws.unsqueeze(-1) - y).abs() * (weight / weight.sum())).sum(-1)
    i, j = torch.triu_indices(len(draws), len(draws), 1)
    return 2 * cross.mean((0, 2)) - repulsion * (draws[i] - draws[j]).abs().mean((0, 2))


def expected_absolute(shift: float, spread: float) -> float:
    """E|N(shift, spread^2)|."""
    u = shift / spread
    density = math.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    return shift * math.erf(u / 2**0.5) + 2 * spread * density


def test_two_dimensions_by_hand() -> None:
    """Draws (0, 0) and (1, 3), target (2, 1): 2 (2 + 1) / 2 - 1 = 2 and 2 (1 + 2) / 2 - 3 = 0, the mean 1."""
    draws = torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]]])
    assert marginal_loss(draws, torch.tensor([[2.0, 1.0]])).item() == pytest.approx(1)
    # r = 1/2 takes off half of the distances among draws: (3 - 1/2 + 3 - 3/2) / 2
    assert marginal_loss(draws, torch.tensor([[2.0, 1.0]]), repulsion=0.5).item() == pytest.approx(2)


def test_expected_distances_by_hand() -> None:
    """E|N(0, 1)| = sqrt(2 / pi) and E|N(1.5, 2^2)| = 2.024668 (E1): draws that coincide have no more."""
    mean, log_std = torch.tensor([[0.0, 1.5]]), torch.tensor([[1.0, 2.0]]).log()
    value = marginal_loss(torch.zeros(3, 1, 2), mean, log_std)
    assert value.item() == pytest.approx((2 / math.pi) ** 0.5 + 2.024668, abs=5e-7)


def test_in_one_dimension_it_is_the_energy_score_of_a_point() -> None:
    draws, mean = torch.randn(5, 7, 1), torch.randn(7, 1)
    torch.testing.assert_close(marginal_loss(draws, mean), energy_loss(draws, mean.unsqueeze(0)))


@pytest.mark.parametrize("repulsion", [1.0, 0.7])
def test_value_and_gradient_of_a_posterior_are_those_of_quadrature(repulsion: float) -> None:
    draws, mean, log_std = torch.randn(4, 5, 3).requires_grad_(), torch.randn(5, 3), 0.5 * torch.randn(5, 3)
    outer = torch.randn(5)
    expected = by_quadrature(draws, mean, log_std, repulsion)
    value = marginal_loss(draws, mean, log_std, repulsion)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad(loss @ outer, draws)[0] for loss in (value, expected)]
    torch.testing.assert_close(*slopes, rtol=0, atol=5e-3)  # the slope of a sum over a grid is a staircase
    assert torch.autograd.gradcheck(lambda x: marginal_loss(x, mean, log_std, repulsion), (draws,))
    assert torch.autograd.gradcheck(lambda x: marginal_loss(x, mean, None, repulsion), (draws,))


@pytest.mark.parametrize("num_draws", [2, 7])
def test_unbiased_in_the_number_of_draws(num_draws: int) -> None:
    """Draws N(0.4, 0.8^2), posterior N(0, 0.5^2): 2 E|N(0.4, 0.89)| - E|N(0, 2 * 0.64)|. False alarm 1e-8."""
    expected = 2 * expected_absolute(0.4, 0.89**0.5) - expected_absolute(0.0, 1.28**0.5)
    draws, mean = 0.4 + 0.8 * torch.randn(num_draws, 4000, 2), torch.zeros(4000, 2)
    values = marginal_loss(draws, mean, torch.full_like(mean, 0.5).log())
    assert values.mean().item() == pytest.approx(expected, abs=six_sigma(values))
    assert six_sigma(values) < 0.05


def test_the_truth_is_best_of_all_scales() -> None:
    """The expected slope in the scale of the draws is 0 at that of the posterior; false alarm 1e-8 each."""
    mean = torch.zeros(4000, 2)
    for spread, sign in ((0.4, -1), (0.5, 0), (0.6, 1)):
        s = torch.full((4000, 1), spread, requires_grad=True)
        loss = marginal_loss(s * torch.randn(8, 4000, 2), mean, torch.full_like(mean, 0.5).log())
        (slopes,) = torch.autograd.grad(loss.sum(), s)
        found, allowed = slopes.mean().item(), six_sigma(slopes)
        assert abs(found) < allowed if sign == 0 else sign * found > allowed


def test_it_does_not_see_how_dimensions_depend_on_each_other_and_a_sum_with_the_joint_score_does() -> None:
    """Draws (x, x) against independent ones, at independent targets: equal to the one score, worse by the
    other. False alarm 1e-8 each.
    """
    x, y = torch.randn(8, 4000, 2), torch.randn(8, 4000, 2)
    tied, zero = x[..., :1].expand_as(x), torch.zeros(4000, 2)
    blind = marginal_loss(tied, zero, zero) - marginal_loss(x, zero, zero)
    assert abs(blind.mean().item()) < six_sigma(blind)
    worse = energy_loss(tied, y) - energy_loss(x, y)
    assert worse.mean().item() > six_sigma(worse)
    both = 0.5 * worse + 0.5 * blind
    assert both.mean().item() > six_sigma(both)


def test_coincident_draws_are_not_pushed_apart_by_their_order() -> None:
    point = torch.randn(1, 6, 3)
    draws = point.repeat(4, 1, 1).requires_grad_()
    value = marginal_loss(draws, point[0])
    (gradient,) = torch.autograd.grad(value.sum(), draws)
    assert value.eq(0).all()
    assert gradient.eq(0).all()


def test_a_posterior_of_no_width_is_a_point() -> None:
    draws, mean = torch.randn(4, 6, 3).float().requires_grad_(), torch.randn(6, 3).float()
    draws.data[0] = mean
    narrow, point = marginal_loss(draws, mean, torch.full_like(mean, -200.0)), marginal_loss(draws, mean)
    torch.testing.assert_close(narrow, point)
    slopes = [torch.autograd.grad(loss.sum(), draws)[0] for loss in (narrow, point)]
    torch.testing.assert_close(*slopes)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    draws, mean, log_std = torch.randn(4, 7, 3), torch.randn(7, 3), torch.randn(7, 3)
    whole = marginal_loss(draws, mean, log_std)
    monkeypatch.setattr(energy_score, "BLOCK_ELEMENTS", 2 * 4 * 3)  # 2 units at a time
    torch.testing.assert_close(marginal_loss(draws, mean, log_std), whole)


def test_half_precision_is_computed_in_float32_and_the_target_is_a_constant() -> None:
    draws, mean, log_std = (torch.randn(*shape).bfloat16() for shape in ((4, 6, 3), (6, 3), (6, 3)))
    for tensor in (draws, mean, log_std):
        tensor.requires_grad_()
    values = marginal_loss(draws, mean, log_std)
    assert values.dtype == torch.float32
    exact = marginal_loss(draws.double(), mean.double(), log_std.double())
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-5)
    values.sum().backward()
    assert draws.grad is not None
    assert mean.grad is log_std.grad is None
