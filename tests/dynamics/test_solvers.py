from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from calmkit.dynamics.solvers import integrate, solver_calls

FIXED, ADAPTIVE = ("euler", "midpoint"), ("dopri5", "tsit5")
MEAN, STD = 2.0, 0.5


def toward(mean: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact velocity from N(0, 1) to N(mean, STD^2); its flow is z -> mean + STD z."""

    def velocity(z_t: Tensor, t: Tensor) -> Tensor:
        t = t[..., None]
        slope = (t * STD**2 - (1 - t)) / (t**2 * STD**2 + (1 - t) ** 2)
        return mean + slope * (z_t - t * mean)

    return velocity


gaussian = toward(MEAN)


def bell(z_t: Tensor, t: Tensor) -> Tensor:
    """z' = -2 t z, solved by z0 exp(-t^2)."""
    return -2 * t[..., None] * z_t


def error(
    solver: str, num_steps: int, field: Callable[[Tensor, Tensor], Tensor], start: float, end: float
) -> float:
    z = integrate(field, torch.tensor([[start]]), solver=solver, num_steps=num_steps)
    return abs(z.item() - end)


@pytest.mark.parametrize(
    ("solver", "num_steps", "expected"),
    [
        ("euler", 10, 0.153),
        ("euler", 20, 7.9e-2),
        ("euler", 50, 3.2e-2),
        ("midpoint", 10, 2.6e-4),
        ("midpoint", 20, 3.2e-5),
        ("midpoint", 50, 2.1e-6),
    ],
)
def test_f1_errors_on_the_exact_flow_to_a_gaussian(solver: str, num_steps: int, expected: float) -> None:
    # The error grows in proportion to the distance from the mean; the values are those of a point 2.21 away.
    assert error(solver, num_steps, gaussian, 2.21, MEAN + STD * 2.21) == pytest.approx(expected, rel=0.03)
    assert error(solver, num_steps, gaussian, 0.0, MEAN) < 1e-14  # the mean itself moves on a straight line


@pytest.mark.parametrize(("solver", "order"), [("euler", 1.0), ("midpoint", 2.0)])
def test_f1_order_on_a_field_that_depends_on_time(solver: str, order: float) -> None:
    errors = [error(solver, n, bell, 1.0, math.exp(-1)) for n in (8, 16, 32, 64)]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert all(order - 0.1 < found < order + 0.2 for found in orders), (
        orders
    )  # rk4 of torchdyn 1.0.6 gives 1.0


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_adaptive_solvers_meet_their_tolerance(solver: str) -> None:
    assert error(solver, 1, bell, 1.0, math.exp(-1)) < 1e-4
    assert error(solver, 1, gaussian, 1.0, MEAN + STD) < 2e-3  # 1e-4 per step, which the field then stretches
    loose = abs(integrate(bell, torch.ones(1, 1), solver=solver, tolerance=1e-2).item() - math.exp(-1))
    tight = abs(integrate(bell, torch.ones(1, 1), solver=solver, tolerance=1e-8).item() - math.exp(-1))
    assert tight < 1e-7 < loose


@pytest.mark.parametrize("num_steps", [1, 3, 10])
def test_f2_euler_is_exact_where_all_lines_end_in_one_point(num_steps: int) -> None:
    point = torch.tensor([[3.0, -1.0]])
    z = integrate(
        lambda z_t, t: (point - z_t) / (1 - t[..., None]),
        torch.randn(4, 2),
        solver="euler",
        num_steps=num_steps,
    )
    torch.testing.assert_close(z, point.expand(4, 2), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("solver", "settings"), [("midpoint", {"num_steps": 2000}), ("dopri5", {"tolerance": 1e-10})]
)
def test_f4_a_sum_of_velocities_goes_to_the_sum_of_the_means(solver: str, settings: dict[str, float]) -> None:
    """Fields to N(m_i, s^2), weights w_i that sum to 1: the flow ends in N(sum w_i m_i, s^2).

    With w = (3, -2) and m = (1, 0) that is N(3, .5^2): z = 3 + .5 noise.
    """

    def guided(z_t: Tensor, t: Tensor) -> Tensor:
        return sum(w * toward(m)(z_t, t) for w, m in ((3.0, 1.0), (-2.0, 0.0)))

    noise = torch.linspace(-2, 2, 5).unsqueeze(1)
    z = integrate(guided, noise, solver=solver, **settings)
    torch.testing.assert_close(z, 3 + 0.5 * noise, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["rk4", "rk-4", "RungeKutta4"])
def test_f1_rk4_is_refused_because_torchdyns_is_of_first_order(name: str) -> None:
    with pytest.raises(ValueError, match=f"integrate: solver '{name}' is refused: .*first order.*midpoint"):
        integrate(bell, torch.ones(1, 1), solver=name)


@pytest.mark.parametrize("name", ["alf", "AsynchronousLeapfrog", "ieuler", "heun", "Midpoint", ""])
def test_every_other_solver_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"flow: solver '{name}' is refused"):
        solver_calls("flow", name, 10)


def test_calls_as_stated_and_as_made() -> None:
    seen = 0

    def field(z_t: Tensor, t: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        return gaussian(z_t, t)

    for solver, calls in (("euler", 7), ("midpoint", 14), ("dopri5", None)):
        assert solver_calls("x", solver, 7) == calls
        seen = 0
        integrate(field, torch.ones(2, 1), solver=solver, num_steps=7)
        assert seen == calls or (calls is None and 10 < seen < 100)
    with pytest.raises(ValueError, match="x: num_steps must be at least 1, got 0"):
        solver_calls("x", "euler", 0)


@pytest.mark.parametrize("solver", FIXED + ADAPTIVE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_field_that_is_not_finite_ends_in_an_error(solver: str, bad: float) -> None:
    def field(z_t: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[..., None] > 0.3, bad, -z_t)  # fine at first, as a diverged network may be

    with pytest.raises(FloatingPointError, match=f"NaN or infinity to solver '{solver}'"):
        integrate(field, torch.ones(3, 2), solver=solver)


def test_one_bad_midpoint_is_found_even_where_the_end_is_finite() -> None:
    def field(z_t: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[..., None] == 0, math.inf, torch.zeros_like(z_t))

    with pytest.raises(FloatingPointError):
        integrate(field, torch.ones(3, 2), solver="midpoint", num_steps=1)


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_adaptive_solvers_stop_at_the_ceiling(solver: str) -> None:
    with pytest.raises(RuntimeError, match=f"'{solver}' needed more than 50 evaluations.*'midpoint'"):
        integrate(
            lambda z_t, t: 1e3 * (1e4 * t[..., None]).sin() * z_t,
            torch.ones(1, 1),
            solver=solver,
            max_evaluations=50,
        )


@pytest.mark.parametrize("solver", FIXED + ADAPTIVE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_out_is_dtype_in_and_half_precision_is_integrated_in_float32(
    solver: str, dtype: torch.dtype
) -> None:
    seen = set()

    def field(z_t: Tensor, t: Tensor) -> Tensor:
        seen.update((z_t.dtype, t.dtype))
        return gaussian(z_t, t).to(dtype)  # as a network of that dtype would answer

    z = integrate(field, torch.tensor([[1.0]], dtype=dtype), solver=solver, max_evaluations=100_000)
    assert z.dtype == dtype
    assert seen == {torch.promote_types(dtype, torch.float32)}
    assert z.item() == pytest.approx(MEAN + STD, abs=0.1 if solver == "euler" else 0.02)


@pytest.mark.parametrize("solver", FIXED + ADAPTIVE)
def test_time_comes_once_per_row_whatever_the_solver(solver: str) -> None:
    shapes, times = set(), []

    def field(z_t: Tensor, t: Tensor) -> Tensor:
        shapes.add(t.shape)
        assert t.min() == t.max()
        times.append(t.flatten()[0].item())
        return bell(z_t, t)

    z = integrate(field, torch.ones(4, 3, 2), solver=solver, num_steps=2)
    assert z.shape == (4, 3, 2)
    assert shapes == {(4, 3)}
    assert times[0] == 0
    if solver == "midpoint":
        assert times == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("solver", FIXED)
def test_fixed_steps_treat_every_row_alone(solver: str) -> None:
    z0, shift = torch.randn(5, 2), torch.randn(5, 2)

    def flow(rows: slice) -> Tensor:
        return integrate(lambda z_t, t: gaussian(z_t, t) + shift[rows], z0[rows], solver=solver)

    assert torch.equal(flow(slice(2, 3)), flow(slice(None))[2:3])


@pytest.mark.parametrize("solver", FIXED + ADAPTIVE)
def test_gradient_passes_and_nothing_is_no_problem(solver: str) -> None:
    z0 = torch.ones(1, 1, requires_grad=True)
    z = integrate(gaussian, z0, solver=solver, num_steps=50)
    (slope,) = torch.autograd.grad(z.sum(), z0)
    assert slope.item() == pytest.approx(STD, abs=0.02)
    assert integrate(gaussian, torch.ones(0, 3), solver=solver).shape == (0, 3)
