"""The score of draws in strata: by hand, against plain loops, unbiased, and what it never allocates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import LAWS, six_sigma
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calmkit.heads import strata_score
from calmkit.heads.energy_score import energy_loss
from calmkit.heads.strata_score import gaussian_two_group_loss, two_group_loss

EXPONENTS = [0.3, 1.0, 1.9]
PLACES, WEIGHTS = torch.tensor([[0.0, 4.0], [0.25, 0.75]], dtype=torch.float64)


def example(units: int = 4, codes: int = 3, dim: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draws, weights, and a posterior's mean, logarithm of the deviation, and noise."""
    draws = torch.randn(2, codes, units, dim).requires_grad_()
    weights = torch.randn(units, codes).softmax(-1).requires_grad_()
    return draws, weights, torch.randn(units, dim), 0.5 * torch.randn(units, dim), torch.randn(5, dim)


def in_loops(draws: Tensor, weights: Tensor, targets: Tensor, exponent: float) -> Tensor:
    """The definition word for word, pair by pair."""
    groups, codes, units, _ = draws.shape
    values = []
    for n in range(units):
        pull = push = torch.zeros(())
        for c in range(codes):
            for y in targets[:, n]:
                for g in range(groups):
                    distance = (draws[g, c, n] - y).norm() ** exponent
                    pull = pull + weights[n, c] * distance / (groups * len(targets))
            for other in range(codes):
                distance = (draws[0, c, n] - draws[1, other, n]).norm() ** exponent
                push = push + weights[n, c] * weights[n, other] * distance
        values.append(2 * pull - push)
    return torch.stack(values)


def toy(units: int) -> Tensor:
    """Draws of two codes, uniform on 0 +- 1/2 and 4 +- 1/2, in both groups: `[2, 2, units, 1]`."""
    return (PLACES[:, None, None] + torch.rand(2, 2, units, 1) - 0.5).requires_grad_()


def test_a_value_by_hand() -> None:
    """Groups (0, 4) and (1, 2), weights 1/4 and 3/4, target 0.

    Pull: (0 + 1) / 4 + (4 + 2) 3/4 = 4.75. Push: (1 * 1 + 2 * 3 + 3 * 3 + 2 * 9) / 16 = 2.125.
    """
    draws = torch.tensor([[0.0, 4.0], [1.0, 2.0]]).reshape(2, 2, 1, 1)
    zero = torch.zeros(1, 1)
    assert two_group_loss(draws, WEIGHTS[None], zero[None]).item() == pytest.approx(2.625, abs=1e-12)
    same = gaussian_two_group_loss(draws, WEIGHTS[None], zero, zero - 40, torch.ones(1, 1))
    assert same.item() == pytest.approx(2.625, abs=1e-12)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_both_forms_equal_all_pairs_in_plain_loops(exponent: float) -> None:
    """Value, and gradient by draws and weights, in float64."""
    draws, weights, mean, log_std, noise = example()
    targets, outer = mean + log_std.exp() * noise.unsqueeze(1), torch.randn(4)
    expected = in_loops(draws, weights, targets, exponent)
    slopes = torch.autograd.grad(expected @ outer, (draws, weights))
    for values in (
        two_group_loss(draws, weights, targets, exponent),
        gaussian_two_group_loss(draws, weights, mean, log_std, noise, exponent),
    ):
        torch.testing.assert_close(values, expected, rtol=1e-11, atol=1e-11)
        found = torch.autograd.grad(values @ outer, (draws, weights))
        torch.testing.assert_close(found, slopes, rtol=1e-9, atol=1e-9)


def test_one_code_is_the_energy_loss_of_two_draws() -> None:
    draws, targets = torch.randn(2, 1, 6, 3), torch.randn(4, 6, 3)
    value = two_group_loss(draws, torch.ones(6, 1), targets, 0.7)
    torch.testing.assert_close(value, energy_loss(draws[:, 0], targets, 0.7))


def test_the_mean_is_the_energy_score_of_exact_independent_draws() -> None:
    """Codes uniform on 0 +- 1/2 and 4 +- 1/2, weights 1/4 and 3/4, target 0.

    Two uniforms on one interval of width 1 are 1/3 apart on average. Exactly drawn: E|x| = 1/16 + 3 = 49/16,
    and E|x - x'| = (1/16 + 9/16) / 3 + 2 * 3/16 * 4 = 41/24, so the loss is 49/8 - 41/24 = 53/12.
    """
    expected = 53 / 12
    values = two_group_loss(toy(20_000), WEIGHTS.expand(20_000, 2), torch.zeros(1, 20_000, 1))
    assert values.mean().item() == pytest.approx(expected, abs=six_sigma(values))  # false alarm 1e-8
    picks = torch.multinomial(WEIGHTS, 2 * 20_000, replacement=True).reshape(2, -1, 1)
    exact = energy_loss(PLACES[picks] + torch.rand(picks.shape) - 0.5, torch.zeros(1, 20_000, 1))
    assert exact.mean().item() == pytest.approx(expected, abs=six_sigma(exact))  # the other road to it
    assert values.std() < 0.2 * exact.std()  # and what strata are for


def test_its_gradient_is_unbiased_too() -> None:
    """Of that toy: by w_c it is 2 E|x_c| - 2 E|x_c - x'|, by the place of the far code 2 w - 2 w (1 - w).

    Near: 1/2 - 2 (1/12 + 3) = -17/3. Far: 8 - 2 (1 + 1/4) = 11/2. Place: 3/2 - 3/8 = 9/8.
    """
    draws, weights = toy(20_000), WEIGHTS.expand(20_000, 2).clone().requires_grad_()
    two_group_loss(draws, weights, torch.zeros(1, 20_000, 1)).sum().backward()
    assert draws.grad is not None
    assert weights.grad is not None
    for slopes, expected in (
        (weights.grad[:, 0], -17 / 3),
        (weights.grad[:, 1], 11 / 2),
        (draws.grad[:, 1].sum((0, 2)), 9 / 8),
    ):
        assert slopes.mean().item() == pytest.approx(expected, abs=six_sigma(slopes) + 1e-9)


def test_pairs_within_a_group_would_be_biased() -> None:
    """E|x - x'| of that toy is 41/24. Weighted pairs of one group lack (w_1^2 + w_2^2) / 3 = 5/24, since a
    code is there once and 0 from itself: 3/2. Their mean over distinct pairs is 4, whatever the weights.
    """
    one = toy(20_000)[0].detach()
    apart = (one.unsqueeze(0) - one.unsqueeze(1)).norm(dim=-1)  # [C, C, N]
    weighted = (WEIGHTS[:, None, None] * WEIGHTS[:, None] * apart).sum((0, 1))
    for naive, expected in ((weighted, 3 / 2), (apart[0, 1], 4.0)):
        assert naive.mean().item() == pytest.approx(expected, abs=six_sigma(naive))
        assert abs(naive.mean().item() - 41 / 24) > 10 * six_sigma(naive)


@LAWS
@given(st.integers(0, 2**16), st.integers(1, 4), st.floats(0.05, 1.0))
def test_it_is_never_negative_up_to_exponent_one(seed: int, codes: int, exponent: float) -> None:
    """w w' |x - x'|^a <= w w' (|x - y|^a + |x' - y|^a), summed over both groups."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(-3, 4, (2, codes, 5, 2), generator=generator).double()
    weights = torch.rand(5, codes, generator=generator).log().mul(4).softmax(-1)
    targets = torch.randint(-3, 4, (1, 5, 2), generator=generator).double()
    assert (two_group_loss(draws, weights, targets, exponent) >= -1e-12).all()


def test_draws_that_coincide_have_a_finite_gradient_and_no_push() -> None:
    """All on their 50 targets, in float32: the smallest exponent has a factor of nearly 10^38 for each."""
    draws = torch.zeros(2, 3, 4, 2, dtype=torch.float32).requires_grad_()
    weights, zero = torch.full((4, 3), 1 / 3, dtype=torch.float32), torch.zeros(4, 2, dtype=torch.float32)
    for exponent in (0.02, *EXPONENTS):
        two_group_loss(draws, weights, zero.expand(50, 4, 2), exponent).sum().backward()
        gaussian_two_group_loss(
            draws, weights, zero, zero - 200, zero.new_ones(50, 2), exponent
        ).sum().backward()
    assert draws.grad is not None
    assert (draws.grad == 0).all()


def test_blocks_of_units_and_codes_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    draws, weights, mean, log_std, noise = example(units=7, codes=5, dim=6)

    def all_of_it() -> tuple[Tensor, ...]:
        values = gaussian_two_group_loss(draws, weights, mean, log_std, noise)
        return values.detach(), *torch.autograd.grad(values @ torch.arange(7.0), (draws, weights))

    whole = all_of_it()
    monkeypatch.setattr(strata_score, "BLOCK_ELEMENTS", 2 * 2 * 5 * 6)  # two units, and of them two codes
    torch.testing.assert_close(all_of_it(), whole)


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("num_targets", [5, 40])
def test_no_tensor_is_larger_than_the_draws_or_a_block(
    num_targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 codes, 32 units, D = 8: the draws are 4,096 numbers. All pairs of draws have 16,384, those of a block
    of 16 units, where 5 targets allow so many, 8,192; draws and 40 targets have 20,480 distances.
    """
    draws, weights, mean, log_std, _ = example(units=32, codes=8, dim=8)
    noise = torch.randn(num_targets, 8)
    monkeypatch.setattr(strata_score, "BLOCK_ELEMENTS", 2**11)
    with Largest() as largest:
        gaussian_two_group_loss(draws, weights, mean, log_std, noise).sum().backward()
    assert largest.elements == draws.numel() == 4_096
    targets = mean + noise.unsqueeze(1)
    with Largest() as largest:
        two_group_loss(draws, weights, targets).sum().backward()
    assert largest.elements == max(4_096, targets.numel())  # which came from here
    with Largest() as largest:
        (draws[0].unsqueeze(1) - draws[1]).square().sum().backward()
    assert largest.elements == 16_384  # the watch does see such a tensor


def test_half_precision_is_computed_in_float32() -> None:
    draws, weights, mean, log_std, noise = (tensor.detach().bfloat16() for tensor in example(dim=16))
    draws.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = gaussian_two_group_loss(draws, weights, mean, log_std, noise)
    exact = gaussian_two_group_loss(*(t.double() for t in (draws, weights, mean, log_std, noise)))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-5)
    values.sum().backward()
    assert draws.grad is not None
    assert draws.grad.dtype == torch.bfloat16
