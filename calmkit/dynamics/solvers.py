"""From noise to data along a velocity field: `torchdyn.numerics.odeint` behind one guarded function.

What the guard is for (measured on torchdyn 1.0.6): its `rk4` is of first order on fields that depend on
time; its adaptive solvers never end on a NaN or in half precision; `t` comes as `[]` or `[1]`; its `args`
never reach the field, so conditions are bound by a closure; without `save_at` it keeps every step.

The adaptive solvers, `dopri5` and `tsit5`, take one step size for the whole batch from one error norm: a
row's result depends, within the tolerance, on its batch mates. The fixed-step solvers treat every row alone.

Source: Poli et al., TorchDyn: Implicit Models and Neural Numerical Methods in PyTorch, 2021.
https://github.com/DiffEqML/torchdyn
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]
"""`field(z_t, t)` -> velocity `[*, D]`, for `z_t` `[*, D]` and one time per row, `t` `[*]`; within one
call of `integrate` all of them are equal (a view of one number), so a network may embed `t[..., :1]`
alone."""

Solver = Literal["euler", "midpoint", "dopri5", "tsit5"]

CALLS_PER_STEP = {"euler": 1, "midpoint": 2}  # of the fixed-step solvers; what is not here is adaptive
REFUSED = {
    "rk4": "torchdyn's is of first order on a field that depends on time, as a flow's does, worse than euler",
    "alf": "torchdyn's needs a state of positions and velocities",
    "ieuler": "torchdyn's solves an optimisation problem in each step",
}
SPELLINGS = {
    "rk-4": "rk4",
    "RungeKutta4": "rk4",
    "AsynchronousLeapfrog": "alf",
    "implicit_euler": "ieuler",
}  # torchdyn's other names


def solver_calls(who: str, solver: str, num_steps: int) -> int | None:
    """Evaluations of the field in one integration; None where an adaptive solver decides.

    Raises:
        ValueError: For a solver that is not offered, with the reason, or fewer than one step; it begins
            with `who`.
    """
    if solver not in get_args(Solver):
        reason = REFUSED.get(SPELLINGS.get(solver, solver), "not known here")
        raise ValueError(
            f"{who}: solver '{solver}' is refused: {reason}; one of {', '.join(get_args(Solver))} would do."
        )
    if num_steps < 1:
        raise ValueError(f"{who}: num_steps must be at least 1, got {num_steps}.")
    return CALLS_PER_STEP[solver] * num_steps if solver in CALLS_PER_STEP else None


def integrate(
    field: Field,
    z0: Float[Tensor, "*rows D"],
    *,
    solver: str = "midpoint",
    num_steps: int = 10,
    tolerance: float = 1e-4,
    max_evaluations: int = 2000,
) -> Float[Tensor, "*rows D"]:
    """z at t = 1 of dz/dt = field(z, t) with z = z0 at t = 0.

    Half precision is integrated in float32 and cast back; float32 and float64 stay what they are.

    Args:
        field: See `Field`. The condition is bound by closure.
        z0: The noise.
        solver: One of `Solver`.
        num_steps: Equal steps of a fixed-step solver; the adaptive ones do not read it.
        tolerance: Per step, absolute and relative, of the adaptive solvers alone. Below 1e-4 the
            rounding of a network in bfloat16 costs many more evaluations.
        max_evaluations: Ceiling on evaluations of the field, of the adaptive solvers alone.

    Raises:
        ValueError: As `solver_calls`.
        FloatingPointError: If the field gives NaN or infinity.
        RuntimeError: If an adaptive solver reaches the ceiling.
    """
    calls = solver_calls("integrate", solver, num_steps)
    if z0.numel() == 0:  # the error norm of nothing is NaN, and an adaptive solver would never end
        return z0
    odeint = _odeint()
    z = z0.to(torch.promote_types(z0.dtype, torch.float32))
    span = torch.linspace(0, 1, 2 if calls is None else num_steps + 1, dtype=z.dtype, device=z.device)
    if calls is None:
        guard = _Guard(field, z.dtype, solver, max_evaluations)
        times, states = odeint(guard, z, span, solver, atol=tolerance, rtol=tolerance)
        # torchdyn saves the ends that it hits to the bit; had it missed t = 1, states[-1] would be the noise
        assert times[-1] == 1, f"{solver} ended at t = {float(times[-1])}"
    else:
        guard = _Guard(field, z.dtype, solver, calls)
        _, states = odeint(guard, z, span, solver, save_at=span[-1:])
        guard.check()
    return states[-1].to(z0.dtype)


def _odeint() -> Callable[..., tuple[Tensor, Tensor]]:
    from torchdyn.numerics import odeint  # seconds of import, for draws alone

    return odeint


@final
class _Guard:
    """A field as torchdyn calls it: of one dtype, one time per row, counted, checked for NaN and infinity.

    A fixed-step solver ends whatever it meets, so its check waits on the device for `check`; an adaptive
    one would not.
    """

    def __init__(self, field: Field, dtype: torch.dtype, solver: str, ceiling: int) -> None:
        self.field, self.dtype, self.solver, self.ceiling = field, dtype, solver, ceiling
        self.calls = 0
        self.finite: Bool[Tensor, ""] | None = None

    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > self.ceiling:
            raise RuntimeError(
                f"integrate: '{self.solver}' needed more than {self.ceiling} evaluations of the field, which "
                "is too steep for its tolerance; solver 'midpoint', or a higher max_evaluations, would do."
            )
        # torchdyn gives t as [] or [1], and both t and z in torch's default dtype after an adaptive step
        rows = t.reshape(-1)[:1].to(self.dtype).expand(z.shape[:-1])
        velocity = self.field(z.to(self.dtype), rows).to(self.dtype)
        finite = torch.isfinite(velocity).all()
        self.finite = finite if self.finite is None else self.finite & finite
        if self.solver not in CALLS_PER_STEP:
            self.check()
        return velocity

    def check(self) -> None:
        if self.finite is not None and not self.finite:
            raise FloatingPointError(
                f"integrate: the velocity field gave NaN or infinity to solver '{self.solver}'; its weights "
                "or its condition are no longer finite. Look at the training loss; an earlier checkpoint "
                "would do."
            )
