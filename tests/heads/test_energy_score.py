"""The energy loss: analytic values, laws, and what it never allocates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calmkit.heads import energy_score
from calmkit.heads.energy_score import energy_loss, gaussian_energy_loss

EXPONENTS = [0.3, 0.75, 1.0, 1.5, 1.9]
LAWS = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def plain(draws: Tensor, targets: Tensor, exponent: float) -> Tensor:
    """Eq. 10 word for word, all pairs at once."""
    cross = (draws.unsqueeze(1) - targets).norm(dim=-1).pow(exponent).mean((0, 1))
    i, j = torch.triu_indices(len(draws), len(draws), 1)
    return 2 * cross - (draws[i] - draws[j]).norm(dim=-1).pow(exponent).mean(0)


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)  # sets of one unit, D = 1


def example(units: int = 6, dim: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, log_std = 3 * torch.randn(units, dim), 0.5 * torch.randn(units, dim)
    return torch.randn(5, units, dim).requires_grad_(), mean, log_std, torch.randn(7, dim)


def six_sigma(estimates: Tensor) -> float:
    """Tolerance of a mean of 300 or more independent estimates: false alarm below 1e-8 (Student's t)."""
    return 6 * estimates.std().item() / len(estimates) ** 0.5


@pytest.mark.parametrize(
    ("draws", "targets", "expected"),
    [
        ([0, 1], [0], 0),  # 2 (0 + 1) / 2 - 1
        ([-1, 1], [0], 0),  # 2 (1 + 1) / 2 - 2
        ([0, 0], [3], 6),  # 2 * 3 - 0
        ([0, 3, 6], [3], 0),  # 2 (3 + 0 + 3) / 3 - (3 + 6 + 3) / 3
        ([0, 3, 6], [10], 10),  # 2 (10 + 7 + 4) / 3 - 4
        ([0, 2], [1, 5], 3),  # 2 (1 + 5 + 1 + 3) / 4 - 2
    ],
)
def test_exact_sets(draws: list[float], targets: list[float], expected: float) -> None:
    assert energy_loss(column(draws), column(targets)).item() == pytest.approx(expected, abs=1e-12)
    zero = torch.zeros(1, 1)  # the same targets as mean 0 + 1 * noise
    value = gaussian_energy_loss(column(draws), zero, zero, column(targets)[:, 0])
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_exponent_by_hand() -> None:
    """Draws 0 and 4, target 0, a = 1/2: 2 (0 + 2) / 2 - 2 = 0; with the target at 9: 3 + sqrt(5) - 2."""
    value = energy_loss(column([0, 4]), column([9]), 0.5)
    assert value.item() == pytest.approx(1 + 5**0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("dim", "model_std", "posterior_std", "shift", "expected"),
    [  # 2 E|N(shift, model^2 + posterior^2)| - E|N(0, 2 model^2)|, in closed form with 1F1
        (1, 1.0, 0.0, 0.0, 0.467390),
        (2, 1.0, 0.5, 1.0, 1.564274),
        (128, 1.0, 0.3, 0.0, 7.608842),
        (128, 0.3, 0.3, 0.0, 4.790634),
    ],
)
def test_expected_loss_of_gaussians(
    dim: int, model_std: float, posterior_std: float, shift: float, expected: float
) -> None:
    """Unbiased although all units of a call share their target noise: the calls are independent."""
    mean = torch.zeros(10, dim)
    mean[:, 0] = shift
    log_std = torch.full((10, dim), posterior_std).log()  # -inf where there is no spread
    calls = torch.stack(
        [
            gaussian_energy_loss(
                model_std * torch.randn(4, 10, dim), mean, log_std, torch.randn(8, dim)
            ).mean()
            for _ in range(300)
        ]
    )
    assert calls.mean().item() == pytest.approx(expected, abs=six_sigma(calls))
    assert six_sigma(calls) < 0.15 * expected


def test_one_dimension_is_twice_the_crps() -> None:
    """Model N(.2, .7^2), truth 1.3: CRPS in closed form."""
    draws = 0.2 + 0.7 * torch.randn(4, 40_000, 1)
    values = energy_loss(draws, torch.full((1, 40_000, 1), 1.3))
    assert values.mean().item() == pytest.approx(1.479724748, abs=six_sigma(values))


@pytest.mark.parametrize("num_draws", [2, 4, 16])
def test_unbiased_in_the_number_of_draws(num_draws: int) -> None:
    """Dividing the self term by S^2 would give 3.4938 at S = 2."""
    values = energy_loss(torch.randn(num_draws, 20_000, 2), 1 + torch.randn(1, 20_000, 2))
    assert values.mean().item() == pytest.approx(2.6076, abs=six_sigma(values) + 5e-5)
    assert six_sigma(values) < 0.1


def test_exponent_two_does_not_see_the_spread() -> None:
    """At a = 2 the loss is 2 |difference of means|^2 + 2 var(targets) - 2 var(draws) / (S - 1), for any sets.

    Its expectation is the same whatever the model's spread, which is why the head refuses a = 2.
    """
    draws, targets = torch.randn(4, 3, 2), 1 + torch.randn(5, 3, 2)
    offset = (draws.mean(0) - targets.mean(0)).square().sum(-1)
    spread = [x.var(0, correction=0).sum(-1) for x in (draws, targets)]
    torch.testing.assert_close(
        energy_loss(draws, targets, 2.0), 2 * offset + 2 * spread[1] - 2 * spread[0] / 3
    )


def test_two_draws_one_target_is_the_form_of_ear() -> None:
    """EAR (arXiv 2505.07812): |x1 - y| + |x2 - y| - |x1 - x2|."""
    x, y = torch.randn(2, 9, 4), torch.randn(1, 9, 4)
    expected = (x[0] - y[0]).norm(dim=-1) + (x[1] - y[0]).norm(dim=-1) - (x[0] - x[1]).norm(dim=-1)
    torch.testing.assert_close(energy_loss(x, y), expected)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_both_forms_equal_the_plain_formula(exponent: float) -> None:
    draws, mean, log_std, noise = example()
    targets = mean + log_std.exp() * noise.unsqueeze(1)
    outer = torch.randn(6)
    expected = plain(draws, targets, exponent)
    (slope,) = torch.autograd.grad(expected @ outer, draws)
    for values in (
        energy_loss(draws, targets, exponent),
        gaussian_energy_loss(draws, mean, log_std, noise, exponent),
    ):
        torch.testing.assert_close(values, expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(torch.autograd.grad(values @ outer, draws)[0], slope, rtol=1e-9, atol=1e-9)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """Float32 at an offset of 1000 and a spread of 0.01: uncentred products would lose every digit."""
    draws, mean, log_std, noise = (tensor.detach() for tensor in example())
    mean, log_std = (1000 + mean).float(), (log_std - 4.6).float()
    draws = (mean + 0.01 * draws).float()
    exact = gaussian_energy_loss(draws.double(), mean.double(), log_std.double(), noise)
    value = gaussian_energy_loss(draws, mean, log_std, noise.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_gradient_with_coincident_draws(exponent: float) -> None:
    """Draws 0 and 1 coincide, draw 2 lies on a target: kinks, of central difference 0 and gradient 0."""
    draws, mean, log_std, noise = (tensor.detach() for tensor in example(units=2, dim=2))
    targets = mean + log_std.exp() * noise.unsqueeze(1)
    draws[1], draws[2] = draws[0], targets[0]
    draws.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: energy_loss(x, targets, exponent), (draws,))
    draws = torch.cat([draws[:2], draws[3:]]).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: gaussian_energy_loss(x, mean, log_std, noise, exponent), (draws,)
    )


@pytest.mark.parametrize("exponent", [0.05, *EXPONENTS])
@pytest.mark.parametrize("gap", [0.0, 1e-38, 1e-22, 1e-18, 1e-10])  # 1e-22 squared is a subnormal number
def test_gradient_is_finite_however_close_draws_are(exponent: float, gap: float) -> None:
    draws = torch.zeros(4, 1, 1, dtype=torch.float32)
    draws[1] = gap
    draws.requires_grad_()
    energy_loss(draws, torch.ones(1, 1, 1, dtype=torch.float32), exponent).sum().backward()
    assert draws.grad is not None
    assert draws.grad.isfinite().all()


def test_draws_on_targets_do_not_blow_up_the_matrix_form() -> None:
    """At a = 1 a draw feels a pull of at most 2 / S and a push of at most 2 / S, also at a distance of 0.

    Every draw of 500 units lies on a target; in float32 many a squared distance comes out as 0 or below.
    """
    mean, log_std, noise = (torch.randn(500, 3), 0.5 * torch.randn(500, 3), torch.randn(7, 3))
    mean, log_std, noise = mean.float(), log_std.float(), noise.float()
    draws = (mean + log_std.exp() * noise[:4].unsqueeze(1)).requires_grad_()
    gaussian_energy_loss(draws, mean, log_std, noise).sum().backward()
    assert draws.grad is not None
    assert draws.grad.norm(dim=-1).max() < 1.01 * 4 / 4


@LAWS
@given(
    st.lists(st.floats(-10, 10), min_size=2, max_size=6),
    st.lists(st.floats(-10, 10), min_size=1, max_size=6),
    st.floats(0.05, 1.0),
)
def test_never_negative_up_to_exponent_one(draws: list[float], targets: list[float], exponent: float) -> None:
    assert energy_loss(column(draws), column(targets), exponent).item() >= -1e-9


def test_negative_is_possible_above_exponent_one() -> None:
    """Draws 0 and 2, target 1, a = 3/2: 2 * 1 - 2^1.5 < 0, so the law above is not void."""
    assert energy_loss(column([0, 2]), column([1]), 1.5).item() == pytest.approx(2 - 2**1.5)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_invariances(exponent: float) -> None:
    draws, targets = torch.randn(4, 5, 3), torch.randn(6, 5, 3)
    value = energy_loss(draws, targets, exponent)
    shift, (rotation, _) = torch.randn(3), torch.linalg.qr(torch.randn(3, 3))
    torch.testing.assert_close(
        energy_loss(draws @ rotation + shift, targets @ rotation + shift, exponent), value
    )
    torch.testing.assert_close(energy_loss(2.5 * draws, 2.5 * targets, exponent), 2.5**exponent * value)
    torch.testing.assert_close(energy_loss(draws.flip(0), targets.roll(1, 0), exponent), value)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    draws, mean, log_std, noise = example(units=7)

    def both() -> tuple[Tensor, Tensor]:
        values = gaussian_energy_loss(draws, mean, log_std, noise)
        return values.detach(), torch.autograd.grad(values.sum(), draws)[0]

    whole = both()
    monkeypatch.setattr(energy_score, "BLOCK_ELEMENTS", 3 * 5 * 7)  # 3 units at a time
    torch.testing.assert_close(both(), whole)


def test_no_tensor_of_all_pairs() -> None:
    """Every tensor, forward and backward, is at most the distances [S, N, R] or the draws [S, N, D]."""
    draws, mean, log_std, noise = (
        torch.randn(8, 32, 16),
        torch.randn(32, 16),
        torch.zeros(32, 16),
        torch.randn(50, 16),
    )
    draws.requires_grad_()
    with Largest() as largest:
        gaussian_energy_loss(draws, mean, log_std, noise).sum().backward()
    assert largest.elements == 8 * 32 * 50
    with Largest() as largest:
        energy_loss(draws, torch.randn(50, 32, 16)).sum().backward()
    assert largest.elements == 50 * 32 * 16
    with Largest() as largest:
        plain(draws, torch.randn(50, 32, 16), 1.0).sum().backward()
    assert largest.elements == 8 * 50 * 32 * 16  # the watch does see such a tensor


def test_half_precision_is_computed_in_float32() -> None:
    draws, mean, log_std, noise = (tensor.detach().bfloat16() for tensor in example(dim=16))
    draws.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = gaussian_energy_loss(draws, mean, log_std, noise)
    exact = gaussian_energy_loss(draws.double(), mean.double(), log_std.double(), noise.double())
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-5)
    values.sum().backward()
    assert draws.grad is not None
    assert draws.grad.dtype == torch.bfloat16


def test_the_target_is_a_constant() -> None:
    draws, mean, log_std, noise = example()
    for tensor in (mean, log_std, noise):
        tensor.requires_grad_()
    gaussian_energy_loss(draws, mean, log_std, noise).sum().backward()
    assert draws.grad is not None
    assert mean.grad is log_std.grad is noise.grad is None


def test_no_units_and_too_few_draws() -> None:
    assert energy_loss(torch.randn(2, 0, 3), torch.randn(1, 0, 3)).shape == (0,)
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        energy_loss(torch.randn(1, 2, 3), torch.randn(1, 2, 3))
