"""The energy loss: analytic values, laws, and what it never allocates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from laws import LAWS, six_sigma
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calmkit.heads import energy_score
from calmkit.heads.energy_score import energy_loss, gaussian_energy_loss

EXPONENTS = [0.3, 0.75, 1.0, 1.5, 1.9]
GRID = st.integers(-640, 640).map(lambda i: i / 64)
"""Numbers whose sums and differences are exact: coincident points stay so, others keep a distance."""


@st.composite
def sets(draw: st.DrawFn, dim: int | None = None) -> tuple[Tensor, Tensor]:
    """Draws `[S, 1, D]` and targets `[R, 1, D]`, of any numbers and places."""
    dim = draw(st.integers(1, 3)) if dim is None else dim
    shapes = ((draw(st.integers(2, 5)), 1, dim), (draw(st.integers(1, 5)), 1, dim))
    draws, targets = (draw(arrays(np.float64, shape, elements=GRID)) for shape in shapes)
    return torch.from_numpy(draws), torch.from_numpy(targets)


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def plain(
    draws: Tensor, targets: Tensor, exponent: float, repulsion: float = 1.0, offset: float = 0.0
) -> Tensor:
    """Eq. 10 word for word, all pairs at once."""

    def rho(difference: Tensor) -> Tensor:
        distance = difference.norm(dim=-1)
        return ((distance**2 + offset**2).sqrt() - offset if offset else distance).pow(exponent)

    i, j = torch.triu_indices(len(draws), len(draws), 1)
    return 2 * rho(draws.unsqueeze(1) - targets).mean((0, 1)) - repulsion * rho(draws[i] - draws[j]).mean(0)


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)  # sets of one unit, D = 1


def example(units: int = 6, dim: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, log_std = 3 * torch.randn(units, dim), 0.5 * torch.randn(units, dim)
    return torch.randn(5, units, dim).requires_grad_(), mean, log_std, torch.randn(7, dim)


def expected_norm(dim: int, shift: float, spread: float) -> float:
    """E |N(shift, s^2 I)| = s sqrt(2) G((d + 1) / 2) / G(d / 2) 1F1(-1/2; d/2; -shift^2 / 2 s^2).

    By Kummer's 1F1(a; b; -x) = e^-x 1F1(b - a; b; x) the series has no negative term.
    """
    x = shift**2 / (2 * spread**2)
    term = total = 1.0
    for k in range(200):
        term *= ((dim + 1) / 2 + k) / (dim / 2 + k) * x / (k + 1)
        total += term
    gammas = math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
    return spread * 2**0.5 * gammas * math.exp(-x) * total


def expected_loss(dim: int, model_std: float, posterior_std: float, shift: float) -> float:
    """2 E|N(shift, model^2 + posterior^2)| - E|N(0, 2 model^2)|."""
    cross = expected_norm(dim, shift, math.hypot(model_std, posterior_std))
    return 2 * cross - expected_norm(dim, 0.0, 2**0.5 * model_std)


@pytest.mark.parametrize(
    ("dim", "shift", "spread", "expected"),
    [
        (1, 0.0, 1.0, 0.797885),
        (1, 1.5, 2.0, 2.024668),
        (3, 2.0, 1.0, 2.494231),
        (128, 0.0, 1.0, 11.291633),
        (16, 3.0, 0.5, 3.576015),
    ],
)
def test_e1_expected_distance_to_a_gaussian(dim: int, shift: float, spread: float, expected: float) -> None:
    """Draws that all lie at 0 have no self term: the loss is 2 E|target|."""
    assert expected_norm(dim, shift, spread) == pytest.approx(expected, abs=5e-7)
    repeats = min(400_000, 4_000_000 // dim)
    mean, log_std = torch.zeros(1, dim), torch.full((1, dim), spread).log()
    mean[0, 0] = shift
    value = gaussian_energy_loss(torch.zeros(2, 1, dim), mean, log_std, torch.randn(repeats, dim))
    # |y| is 1-Lipschitz in y: the mean of R strays by t with a chance of at most 2 exp(-R t^2 / 2 spread^2),
    # which is 5.4e-7 at t = 5.5 spread / sqrt(R)
    assert value.item() / 2 == pytest.approx(expected, abs=5.5 * spread / repeats**0.5)


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
def test_e4_exact_sets(draws: list[float], targets: list[float], expected: float) -> None:
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
    [
        (1, 1.0, 0.0, 0.0, 0.467390),
        (2, 1.0, 0.5, 1.0, 1.564274),
        (128, 1.0, 0.3, 0.0, 7.608842),
        (128, 0.3, 0.3, 0.0, 4.790634),
    ],
)
def test_e3_expected_loss_of_gaussians(
    dim: int, model_std: float, posterior_std: float, shift: float, expected: float
) -> None:
    """Unbiased although all units of a call share their target noise: the calls are independent.

    Where model and posterior are equal this is the floor, which is not 0.
    """
    assert expected_loss(dim, model_std, posterior_std, shift) == pytest.approx(expected, abs=5e-7)
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


def test_e3_the_floor_is_the_distance_of_two_posterior_draws() -> None:
    """No model gets below the model that is the posterior; it is left with E|N(0, 2 p^2 I)|."""
    floor = expected_norm(128, 0.0, 2**0.5 * 0.3)
    assert floor == pytest.approx(4.790634, abs=5e-7)
    for model_std, shift in ((0.3, 0.1), (0.25, 0.0), (0.35, 0.0)):
        assert expected_loss(128, model_std, 0.3, shift) > floor + 1e-3
    assert expected_loss(128, 0.3, 0.3, 0.0) == pytest.approx(floor, abs=1e-9)


def test_e2_one_dimension_is_twice_the_crps() -> None:
    """Model N(.2, .7^2), truth 1.3: CRPS = s (w (2 Phi(w) - 1) + 2 phi(w) - 1 / sqrt(pi)), w = 1.1 / .7."""
    w = (1.3 - 0.2) / 0.7
    phi = math.exp(-(w**2) / 2) / math.sqrt(2 * math.pi)
    crps = 0.7 * (w * math.erf(w / 2**0.5) + 2 * phi - 1 / math.sqrt(math.pi))
    assert 2 * crps == pytest.approx(1.479724748, abs=5e-10)
    draws = 0.2 + 0.7 * torch.randn(4, 40_000, 1)
    values = energy_loss(draws, torch.full((1, 40_000, 1), 1.3))
    assert values.mean().item() == pytest.approx(1.479724748, abs=six_sigma(values))


@pytest.mark.parametrize("num_draws", [2, 4, 16])
def test_e6_unbiased_in_the_number_of_draws(num_draws: int) -> None:
    """Model N(0, I), target N((1, 1), I). Dividing the self term by S^2 would halve it at S = 2: 3.4938."""
    assert expected_loss(2, 1.0, 1.0, 2**0.5) == pytest.approx(2.6076, abs=5e-5)
    biased = 2.6076 + expected_norm(2, 0.0, 2**0.5) / 2
    assert biased == pytest.approx(3.4938, abs=1e-4)
    values = energy_loss(torch.randn(num_draws, 20_000, 2), 1 + torch.randn(1, 20_000, 2))
    assert values.mean().item() == pytest.approx(2.6076, abs=six_sigma(values) + 5e-5)
    assert six_sigma(values) < 0.1


def test_e5_exponent_two_does_not_see_the_spread() -> None:
    """At a = 2 the loss is 2 |difference of means|^2 + 2 var(targets) - 2 var(draws) / (S - 1), for any sets.

    In expectation, for D dimensions, the three are 2 (|shift|^2 + D m^2 / S + D p^2 / R),
    2 D p^2 (1 - 1 / R) and 2 D m^2 / S: together 2 |shift|^2 + 2 D p^2 whatever the model's spread m, which
    is why the head refuses a = 2.
    """
    draws, targets = torch.randn(4, 3, 2), 1 + torch.randn(5, 3, 2)
    offset = (draws.mean(0) - targets.mean(0)).square().sum(-1)
    spread = [x.var(0, correction=0).sum(-1) for x in (draws, targets)]
    torch.testing.assert_close(
        energy_loss(draws, targets, 2.0), 2 * offset + 2 * spread[1] - 2 * spread[0] / 3
    )


@pytest.mark.parametrize("tau", [1.0, 0.99])
def test_e7_two_draws_one_target_is_the_form_of_ear(tau: float) -> None:
    """EAR (arXiv 2505.07812): |x1 - y| + |x2 - y| - tau |x1 - x2|; at tau = 1 that is CALM's S = 2, R = 1."""
    x, y = torch.randn(2, 9, 4), torch.randn(1, 9, 4)
    pull = (x[0] - y[0]).norm(dim=-1) + (x[1] - y[0]).norm(dim=-1)
    expected = pull - tau * (x[0] - x[1]).norm(dim=-1)
    torch.testing.assert_close(energy_loss(x, y, repulsion=tau), expected)
    if tau == 1:
        torch.testing.assert_close(energy_loss(x, y), expected)


@pytest.mark.parametrize("tau", [0.99, 0.5])
def test_e7_less_repulsion_is_best_at_a_smaller_spread(tau: float) -> None:
    """Target N(0, I), draws s N(0, I): the slope is c (2 s / sqrt(s^2 + 1) - tau sqrt(2)), c = E|N(0, I)|.

    It is 0 at s = tau / sqrt(2 - tau^2), which is 0.9803 at tau = .99, and c sqrt(2) (1 - tau) > 0 at the
    truth, s = 1.
    """
    best, at_truth = tau / (2 - tau**2) ** 0.5, expected_norm(16, 0.0, 1.0) * 2**0.5 * (1 - tau)
    assert tau != 0.99 or best == pytest.approx(0.9803, abs=5e-5)
    for spread, expected in ((best, 0.0), (1.0, at_truth)):
        s = torch.full((4000, 1), spread, requires_grad=True)
        loss = energy_loss(s * torch.randn(8, 4000, 16), torch.randn(8, 4000, 16), repulsion=tau)
        (slopes,) = torch.autograd.grad(loss.sum(), s)
        assert slopes.mean().item() == pytest.approx(expected, abs=six_sigma(slopes))  # false alarm 1e-8
        assert six_sigma(slopes) < at_truth  # or the two could not be told apart


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("repulsion", [1.0, 0.7])
def test_both_forms_equal_the_plain_formula(exponent: float, repulsion: float) -> None:
    draws, mean, log_std, noise = example()
    targets = mean + log_std.exp() * noise.unsqueeze(1)
    outer = torch.randn(6)
    expected = plain(draws, targets, exponent, repulsion)
    (slope,) = torch.autograd.grad(expected @ outer, draws)
    for values in (
        energy_loss(draws, targets, exponent, repulsion),
        gaussian_energy_loss(draws, mean, log_std, noise, exponent, repulsion),
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


def test_e_numerics_float32_at_offset_50_is_no_trap() -> None:
    """32 draws and targets at 50 with a spread of 0.01: distances by products of float32 lose every digit.

    `torch.cdist` takes them for more than 25 rows.
    """
    mean, log_std = torch.full((2, 8), 50.0).float(), torch.full((2, 8), 0.01).log().float()
    draws = (mean + 0.01 * torch.randn(32, 2, 8)).float()
    noise = torch.randn(32, 8).float()
    targets = mean + log_std.exp() * noise.unsqueeze(1)
    exact = plain(draws.double(), targets.double(), 1.0)
    trap = torch.cdist(draws[:, 0], draws[:, 0]).double()
    true = torch.cdist(
        draws[:, 0].double(), draws[:, 0].double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    off_diagonal = ~torch.eye(32, dtype=torch.bool)
    assert ((trap - true).abs() / true)[off_diagonal].max() > 0.5  # that is what the loss must not do
    for value in (energy_loss(draws, targets), gaussian_energy_loss(draws, mean, log_std, noise)):
        assert value.dtype == torch.float32
    torch.testing.assert_close(energy_loss(draws, targets).double(), exact, rtol=1e-5, atol=0)
    # The Gaussian form never rounds its targets to the 4e-6 between float32 numbers at 50.
    never_made = mean.double() + log_std.double().exp() * noise.double().unsqueeze(1)
    exact = plain(draws.double(), never_made, 1.0)
    by_products = gaussian_energy_loss(draws, mean, log_std, noise)
    torch.testing.assert_close(by_products.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_e5_gradient_with_coincident_draws(exponent: float) -> None:
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
def test_e5_gradient_is_finite_however_close_draws_are(exponent: float, gap: float) -> None:
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


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_e5_zero_when_all_are_equal(exponent: float) -> None:
    """No distance, no loss and no push, for exponents below 1 too, where the power has an infinite slope."""
    point = torch.randn(1, 6, 3)
    draws = point.repeat(4, 1, 1).requires_grad_()
    value = energy_loss(draws, point.repeat(5, 1, 1), exponent)
    assert value.eq(0).all()
    (gradient,) = torch.autograd.grad(value.sum(), draws)
    assert gradient.eq(0).all()


@LAWS
@given(sets(), st.floats(0.05, 1.0))
def test_e4_never_negative_up_to_exponent_one(given_sets: tuple[Tensor, Tensor], exponent: float) -> None:
    assert energy_loss(*given_sets, exponent).item() >= -1e-9


def test_e4_negative_is_possible_above_exponent_one() -> None:
    """Draws 0 and 2, target 1, a = 3/2: 2 * 1 - 2^1.5 < 0, so the law above is not void."""
    assert energy_loss(column([0, 2]), column([1]), 1.5).item() == pytest.approx(2 - 2**1.5)


@LAWS
@given(sets(), st.lists(GRID, min_size=3, max_size=3), st.floats(0.05, 1.95))
def test_e4_translation_changes_nothing(
    given_sets: tuple[Tensor, Tensor], shift: list[float], exponent: float
) -> None:
    """Exactly: the numbers are such that no digit is lost."""
    draws, targets = given_sets
    by = torch.tensor(shift[: draws.shape[-1]])
    assert torch.equal(energy_loss(draws + by, targets + by, exponent), energy_loss(draws, targets, exponent))


@LAWS
@given(sets(dim=3), st.floats(0, 6.3), st.floats(0, 6.3), st.floats(0.05, 1.95))
def test_e4_rotation_changes_nothing(
    given_sets: tuple[Tensor, Tensor], first: float, second: float, exponent: float
) -> None:
    def turned(points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        x, y = math.cos(first) * x - math.sin(first) * y, math.sin(first) * x + math.cos(first) * y
        y, z = math.cos(second) * y - math.sin(second) * z, math.sin(second) * y + math.cos(second) * z
        return torch.stack([x, y, z], -1)

    draws, targets = given_sets
    value = energy_loss(draws, targets, exponent)
    torch.testing.assert_close(
        energy_loss(turned(draws), turned(targets), exponent), value, rtol=1e-9, atol=1e-9
    )


@LAWS
@given(sets(), st.floats(0.01, 100), st.floats(0.05, 1.95))
def test_e4_scaling_is_a_power(given_sets: tuple[Tensor, Tensor], by: float, exponent: float) -> None:
    draws, targets = given_sets
    expected = by**exponent * energy_loss(draws, targets, exponent)
    scale = by**exponent * 40**exponent  # of the terms, whose difference may be small
    value = energy_loss(by * draws, by * targets, exponent)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_order_of_draws_and_targets_does_not_matter(exponent: float) -> None:
    draws, targets = torch.randn(4, 5, 3), torch.randn(6, 5, 3)
    value = energy_loss(draws, targets, exponent)
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


def test_e8_an_offset_by_hand() -> None:
    """c = 3: 4 counts 5 - 3 = 2, 8 counts sqrt(73) - 3. Draws 0 and 4, target 0: 2 (0 + 2) / 2 - 2 = 0."""
    for target, expected in ((0.0, 0.0), (8.0, 73**0.5 - 3)):  # (sqrt(73) - 3 + 2) - 2
        value = energy_loss(column([0, 4]), column([target]), offset=3.0)
        assert value.item() == pytest.approx(expected, abs=1e-12)
        mean = torch.full((1, 1), target)  # the same target as a posterior of no width
        value = gaussian_energy_loss(column([0, 4]), mean, mean - mean, torch.zeros(3, 1), offset=3.0)
        assert value.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("offset", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("repulsion", [1.0, 0.7])
def test_e8_both_forms_equal_the_plain_formula_with_an_offset(offset: float, repulsion: float) -> None:
    draws, mean, log_std, noise = example()
    targets = mean + log_std.exp() * noise.unsqueeze(1)
    outer = torch.randn(6)
    expected = plain(draws, targets, 1.0, repulsion, offset)
    (slope,) = torch.autograd.grad(expected @ outer, draws)
    for values in (
        energy_loss(draws, targets, 1.0, repulsion, offset),
        gaussian_energy_loss(draws, mean, log_std, noise, 1.0, repulsion, offset),
    ):
        torch.testing.assert_close(values, expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(torch.autograd.grad(values @ outer, draws)[0], slope, rtol=1e-9, atol=1e-9)


def test_e8_with_an_offset_the_gradient_is_smooth_where_draws_meet() -> None:
    draws, mean, log_std, noise = (tensor.detach() for tensor in example(units=2, dim=2))
    targets = mean + log_std.exp() * noise.unsqueeze(1)
    draws[1], draws[2] = draws[0], targets[0]
    draws.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: energy_loss(x, targets, offset=0.3), (draws,))
    assert torch.autograd.gradcheck(
        lambda x: gaussian_energy_loss(x, mean, log_std, noise, offset=0.3), (draws,)
    )


def test_e8_near_distances_keep_their_digits_in_float32() -> None:
    """sqrt(d^2 + c^2) - c of d = 1e-3 and c = 1 is 5e-7: as a difference it would have one digit."""
    draws = torch.tensor([[[0.0]], [[1e-3]]]).float()
    value = energy_loss(draws, torch.zeros(1, 1, 1).float() - 1e-3, offset=1.0)
    distances = [math.hypot(1e-3 * k, 1.0) - 1 for k in (1, 2, 1)]
    expected = distances[0] + distances[1] - distances[2]
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("offset", [1e-42, 1e-30, 1e-3])
def test_e8_gradient_is_finite_however_small_the_offset_is(offset: float) -> None:
    draws = torch.zeros(4, 1, 1, dtype=torch.float32)
    draws[1] = 1e-22
    draws.requires_grad_()
    loss = energy_loss(draws, torch.zeros(1, 1, 1, dtype=torch.float32), offset=offset)
    loss.sum().backward()
    assert draws.grad is not None
    assert bool(draws.grad.isfinite().all() and loss.isfinite().all())


@LAWS
@given(sets(dim=2), st.floats(0.05, 20), st.integers(0, 2**32 - 1))
def test_e8_an_offset_leaves_the_distance_of_negative_type(
    given_sets: tuple[Tensor, Tensor], offset: float, seed: int
) -> None:
    """sum_ij w_i w_j rho(x_i - x_j) <= 0 for weights of sum 0: what makes the score proper."""
    points = torch.cat(given_sets)  # [P, 1, 2]
    pairs = points.repeat(len(points), 1, 1).transpose(0, 1).expand(2, -1, -1)
    others = points.repeat_interleave(len(points), 0).transpose(0, 1)
    rho = energy_loss(pairs, others, offset=offset).reshape(len(points), -1) / 2  # no distance among draws
    weights = torch.randn(len(points), generator=torch.Generator().manual_seed(seed))
    weights = weights - weights.mean()
    assert (weights @ rho @ weights).item() <= 1e-12 * rho.abs().sum().item()


def test_e8_with_an_offset_the_truth_is_best_of_all_scales() -> None:
    """Targets N(0, I), draws s N(0, I): the expected slope in s is 0 at 1, below it negative, above positive.

    The false alarm is 1e-8 for each of the three.
    """
    for spread, sign in ((0.8, -1), (1.0, 0), (1.25, 1)):
        s = torch.full((4000, 1), spread, requires_grad=True)
        loss = energy_loss(s * torch.randn(8, 4000, 4), torch.randn(8, 4000, 4), offset=0.7)
        (slopes,) = torch.autograd.grad(loss.sum(), s)
        found, allowed = slopes.mean().item(), six_sigma(slopes)
        assert abs(found) < allowed if sign == 0 else sign * found > allowed


def test_e8_an_offset_is_refused_where_it_is_no_distance_or_no_proper_score() -> None:
    for offset in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="energy: offset must be at least 0 and finite"):
            energy_loss(torch.randn(2, 2, 3), torch.randn(1, 2, 3), offset=offset)
    with pytest.raises(ValueError, match=r"offset 0\.5 is for exponent 1 alone.*got exponent 1\.5"):
        gaussian_energy_loss(*example(), 1.5, offset=0.5)
