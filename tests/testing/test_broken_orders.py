"""The kit sees what is wrong with an order: each keeps every law but one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import Order, OrderStep, Plan
from calmkit.orders.confidence import ConfidenceOrder
from calmkit.orders.left_to_right import LeftToRight
from calmkit.orders.random import RandomOrder
from calmkit.testing import check_order


class Shuffled(Order):
    """The random order, wrapped: each subclass breaks one law."""

    reads = "any"

    def __init__(self, *, steps: int | None = 4) -> None:
        self.inner: Any = RandomOrder(steps=steps, least_hidden=0.2)

    def plan(self, valid: Tensor) -> Plan:
        return self.inner.plan(valid)

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        return self.inner.schedule(units)

    def start(self, rows: int, units: int, *, known: Tensor | None = None, device: torch.device) -> Any:
        return self.inner.start(rows, units, known=known, device=device)

    def query(self, state: Any) -> Tensor:
        return self.inner.query(state)

    def commit(self, state: Any, query: Tensor, score: Tensor | None = None) -> tuple[Tensor, Any]:
        return self.inner.commit(state, query, score)


class HidesFilling(Shuffled):
    """Predicts units that are not real."""

    def plan(self, valid: Tensor) -> Plan:
        return super().plan(torch.ones_like(valid))


class Tells(Shuffled):
    """Lets training read what it predicts."""

    def plan(self, valid: Tensor) -> Plan:
        return replace(super().plan(valid), known=valid)


class Wastes(Shuffled):
    """Hides more than it predicts."""

    def plan(self, valid: Tensor) -> Plan:
        plan = super().plan(valid)
        return replace(plan, known=plan.known & (torch.rand(valid.shape) < 0.5))


class Idle(Shuffled):
    """Hides nothing."""

    def plan(self, valid: Tensor) -> Plan:
        return Plan(valid, torch.zeros_like(valid))


class Skips(Shuffled):
    """Never predicts the first unit of a row that has others."""

    def plan(self, valid: Tensor) -> Plan:
        plan = super().plan(valid)
        predict = plan.predict.clone()
        predict[:, 0] &= ~predict[:, 1:].any(1)
        return Plan(valid & ~predict, predict)


class OwnNoise(Shuffled):
    """Hides by a generator that nobody seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def plan(self, valid: Tensor) -> Plan:
        hidden = valid & (torch.rand(valid.shape, generator=self.generator) < 0.9)
        hidden |= valid & (hidden.sum(1, keepdim=True) == 0)
        return Plan(valid & ~hidden, hidden)


class OwnOrder(OwnNoise):
    """Draws its order from a generator that nobody seeds."""

    plan = Shuffled.plan

    def start(self, rows: int, units: int, *, known: Tensor | None = None, device: torch.device) -> Any:
        state = super().start(rows, units, known=known, device=device)
        order = torch.rand(state.units.shape, generator=self.generator).argsort(1)
        return replace(state, units=state.units.gather(1, order))


class Takes(Shuffled):
    """Has steps for nothing."""

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        return super().schedule(units) if units else ()


class Overlong(Shuffled):
    """States one step too many."""

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        return super().schedule(units) + (OrderStep(1, 1),) * (units == 16)


class Hasty(Shuffled):
    """States one step too few."""

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        return super().schedule(units)[: -1 if units == 16 else None]


class Modest(Shuffled):
    """States fewer draws than it asks for."""

    def __init__(self) -> None:
        self.inner = ConfidenceOrder(steps=4)

    needs_density = True

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        return tuple(replace(step, drawn=step.kept) for step in super().schedule(units))


class Repeats(Shuffled):
    """Asks for the same unit twice."""

    def query(self, state: Any) -> Tensor:
        query = super().query(state).clone()
        query[:, -1] = query[:, 0]
        return query


class AsksAgain(Shuffled):
    """Asks for the first unit of the order again and again."""

    def query(self, state: Any) -> Tensor:
        return torch.cat([state.units[:, :1], super().query(state)[:, 1:]], 1)


class Forgets(Shuffled):
    """Draws what was known at the start."""

    def start(self, rows: int, units: int, *, known: Tensor | None = None, device: torch.device) -> Any:
        self.inner.start(rows, units, known=known, device=device)
        return super().start(rows, units, device=device)


class Uneven(Shuffled):
    """Keeps fewer draws of the first row."""

    def commit(self, state: Any, query: Tensor, score: Tensor | None = None) -> tuple[Tensor, Any]:
        keep, state = super().commit(state, query, score)
        keep[0, 0] = False
        return keep, state


class Remembers(Shuffled):
    """Keeps its state on itself."""

    def start(self, rows: int, units: int, *, known: Tensor | None = None, device: torch.device) -> Any:
        self.state = super().start(rows, units, known=known, device=device)
        return self.state

    def query(self, state: Any) -> Tensor:
        return super().query(self.state if self.state.step < len(self.state.counts) else state)

    def commit(self, state: Any, query: Tensor, score: Tensor | None = None) -> tuple[Tensor, Any]:
        keep, self.state = super().commit(self.state, query, score)
        return keep, self.state


class Lenient(Shuffled):
    """Takes rows that know different numbers of units."""

    def start(self, rows: int, units: int, *, known: Tensor | None = None, device: torch.device) -> Any:
        try:
            return super().start(rows, units, known=known, device=device)
        except ValueError:
            return super().start(rows, units, device=device)


class Deaf(Shuffled):
    """Wants scores and reads none."""

    needs_density = True


class Sure(Shuffled):
    """Confidence, wrapped: it reads its scores."""

    needs_density = True

    def __init__(self) -> None:
        self.inner = ConfidenceOrder(steps=4)


class Forward(Shuffled):
    """Left to right, wrapped: it hides what is real."""

    reads = "causal"

    def __init__(self) -> None:
        self.inner = LeftToRight()

    def plan(self, valid: Tensor) -> Plan:
        return Plan(torch.zeros_like(valid), valid)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (HidesFilling, "a plan knows and predicts real units only"),
        (Tells, "what is hidden is predicted"),
        (Wastes, "what is hidden is predicted"),
        (Idle, "each row that has a real unit predicts one"),
        (Skips, "each real unit is predicted in time"),
        (OwnNoise, "a plan's randomness is torch's default generator"),
        (OwnOrder, "a start's randomness is torch's default generator"),
        (Takes, "num_steps refuses no unit"),
        (Overlong, "num_steps counts the steps of a generation"),
        (Hasty, "a schedule says what a step draws and keeps"),
        (Modest, "a schedule says what a step draws and keeps"),
        (Repeats, "a query names different units that are not known"),
        (AsksAgain, "a query names different units that are not known"),
        (Forgets, "a query names different units that are not known"),
        (Uneven, "as many draws are kept in every row, at least one"),
        (Remembers, "a state is a value"),
        (Lenient, "rows that know different numbers of units are refused"),
        (Deaf, "a score that is asked for is read"),
        (Forward, "a causal order knows all real units"),
    ],
)
def test_a_broken_order_is_seen(cls: type[Order], law: str) -> None:
    with pytest.raises(AssertionError, match=f"orders: '{cls.__name__}' breaks the law '{law}'"):
        check_order(cls)


def test_the_wrapped_orders_themselves_keep_every_law() -> None:
    check_order(Shuffled)
    check_order(Sure)


def test_an_order_that_never_ends_is_told() -> None:
    class Endless(Shuffled):
        """Draws the last unit for ever."""

        def commit(self, state: Any, query: Tensor, score: Tensor | None = None) -> tuple[Tensor, Any]:
            keep, after = super().commit(state, query, score)
            return keep, after if after.step < len(after.counts) else state

        def start(self, rows: int, units: int, *, known: Tensor | None = None, device: torch.device) -> Any:
            state = super().start(rows, units, known=known, device=device)
            return replace(
                state, units=state.units[:, :-1], counts=(*state.counts[:-1], state.counts[-1] - 1)
            )

    with pytest.raises(AssertionError, match="breaks the law 'a schedule says what a step draws"):
        check_order(Endless)
