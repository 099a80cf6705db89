"""The laws of orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import Order, OrderState
from calmkit.testing import laws
from calmkit.testing.laws import Subject

ROWS = 4
SIZES = (16, 12, 5, 2, 1)
"""Units per row that an order is tried with; those that it refuses are passed over, but for the first."""

KNOWN = (1, 3)
"""Units per row that are known at the start."""


def check_order(part: str | type[Order], **settings: Any) -> None:
    """Hold an order to its contract.

    Laws: constructor; `reads` and `needs_density`; a plan hides and predicts real units only, in any order
    exactly those that it hides, at least one of each row that has one, and in time each; in a causal order
    all real ones are known; a plan's and a start's randomness is torch's default generator; `num_steps`
    refuses no unit; a schedule says what each step draws and keeps; over a generation each unit is drawn last
    exactly once, in `num_steps` steps, all rows in step; a query names different units that are not known; a
    state is a value; rows that know different numbers of units are refused; a score that is asked for is
    read; device.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the order; it must allow 16 units.

    Raises:
        AssertionError: Naming order, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("orders", part, settings)
        order: Order = subject.build()
        law = "needs_density is stated"
        subject.require(isinstance(order.needs_density, bool), law, f"it is {order.needs_density!r}")
        _check_plan(subject, order)
        _check_steps(subject, order)
        for units in SIZES:
            if units == SIZES[0] or _takes(order, units):
                _check_generation(subject, order, torch.zeros(ROWS, units, dtype=torch.bool))
        for count in KNOWN:
            _check_generation(subject, order, _known(order, SIZES[0], count))
        _check_start(subject, order)
        if order.needs_density:
            _check_score(subject, order)
        _check_device(subject, order)


def _valid() -> Tensor:
    """Four rows: all real, filling behind, filling in between, one real unit."""
    every = torch.arange(SIZES[0])
    return torch.stack([every >= 0, every < 9, every % 3 != 1, every == 5])


def _takes(order: Order, units: int) -> bool:
    try:
        order.num_steps(units)
    except ValueError:
        return False
    return True


def _known(order: Order, units: int, count: int) -> Tensor:
    """As many known units in every row: the first ones for a causal order, else any."""
    rank = torch.arange(units).expand(ROWS, -1)
    return (rank if order.reads == "causal" else torch.rand(ROWS, units).argsort(1)) < count


@laws.law("a plan predicts real units")
def _check_plan(part: Subject, order: Order) -> None:
    valid, predicted = _valid(), torch.zeros(ROWS, SIZES[0], dtype=torch.bool)
    for seed in range(200):  # of 16 units, one that is hidden at a rate of 0.2 is missed with chance 4e-20
        plan = laws.with_seed(seed, order.plan, valid)
        known, predict, law = plan.known, plan.predict, "a plan is two masks [B, L] bool"
        for mask in (known, predict):
            seen = f"{mask.dtype} of shape {tuple(mask.shape)} for valid {tuple(valid.shape)}"
            part.require(mask.dtype == torch.bool and mask.shape == valid.shape, law, seen)
        for mask, name in ((known, "known"), (predict, "predicted")):
            law, wrong = "a plan knows and predicts real units only", (mask & ~valid).nonzero().tolist()
            part.require(not wrong, law, f"{name} at (row, unit) {wrong}, which are not real")
        if order.reads == "any":
            law, wrong = "what is hidden is predicted", (valid & (known == predict)).nonzero().tolist()
            part.require(not wrong, law, f"both or neither at (row, unit) {wrong}, seed {seed}")
        else:
            law, wrong = "a causal order knows all real units", (valid & ~known).nonzero().tolist()
            part.require(not wrong, law, f"not (row, unit) {wrong}, seed {seed}")
        law, rows = "each row that has a real unit predicts one", predict.any(1).logical_not().nonzero()
        part.require(len(rows) == 0, law, f"rows {rows.flatten().tolist()} predict none, seed {seed}")
        predicted |= predict
    law, never = "each real unit is predicted in time", (valid & ~predicted).nonzero().tolist()
    part.require(not never, law, f"never (row, unit) {never} in 200 plans")
    law = "a plan's randomness is torch's default generator"
    same = all(
        torch.equal(
            laws.with_seed(7, order.plan, valid).predict, laws.with_seed(7, order.plan, valid).predict
        )
        for _ in range(3)
    )
    part.require(same, law, "two plans after one seed differ")
    empty = order.plan(torch.zeros(1, SIZES[0], dtype=torch.bool))
    seen = "in a row without a real unit"
    part.require(not (empty.known | empty.predict).any(), "a plan knows and predicts real units only", seen)


@laws.law("num_steps is 1 to the number of units")
def _check_steps(part: Subject, order: Order) -> None:
    law = "num_steps is 1 to the number of units"
    for units in SIZES:
        if units == SIZES[0] or _takes(order, units):
            steps = order.num_steps(units)
            part.require(1 <= steps <= units, law, f"{steps} steps for {units} units")
    part.require(not _takes(order, 0), "num_steps refuses no unit", "it takes 0 units")


def _score(query: Tensor) -> Tensor:
    return torch.randn(query.shape, dtype=torch.float32, device=query.device)


@laws.law("each unit is drawn exactly once")
def _check_generation(part: Subject, order: Order, known: Tensor) -> None:
    """The whole of one generation, step by step."""
    units, there = known.shape[1], known.clone()
    where = f"{int(known[0].sum())} of {units} units known at the start"
    state = order.start(ROWS, units, known=known if known.any() else None, device=known.device)
    steps, schedule = 0, order.schedule(units - int(known[0].sum()))
    while not there.all():
        query = order.query(state)
        _check_query(part, query, there, f"step {steps}, {where}")
        again = order.query(state)
        keep, state_after = order.commit(state, query, _score(query) if order.needs_density else None)
        law = "a state is a value"
        same = torch.equal(again, query) and torch.equal(order.query(state), query)
        part.require(same, law, f"the query of one state changed in step {steps}, {where}")
        law, counts = "as many draws are kept in every row, at least one", keep.sum(1).tolist()
        shaped = keep.shape == query.shape and keep.dtype == torch.bool
        part.require(shaped, law, f"keep is {keep.dtype} {tuple(keep.shape)} for query {tuple(query.shape)}")
        part.require(min(counts) == max(counts) >= 1, law, f"{counts} by row, step {steps}, {where}")
        law, seen = "a schedule says what a step draws and keeps", (query.shape[1], counts[0])
        told = (schedule[steps].drawn, schedule[steps].kept) if steps < len(schedule) else "no step"
        part.require(told == seen, law, f"{seen} instead of {told}, step {steps}, {where}")
        there = there.scatter(1, query, there.gather(1, query) | keep)
        state, steps = state_after, steps + 1
    law, wanted = "num_steps counts the steps of a generation", order.num_steps(units - int(known[0].sum()))
    part.require(steps == wanted == len(schedule), law, f"{steps} steps instead of {wanted}, {where}")


def _check_query(part: Subject, query: Tensor, there: Tensor, where: str) -> None:
    law = "a query names different units that are not known"
    rows, units = there.shape
    whole = query.dtype in (torch.int32, torch.int64) and query.ndim == 2 and len(query) == rows
    part.require(whole and query.shape[1] >= 1, law, f"{query.dtype} {tuple(query.shape)}, {where}")
    inside = bool(((query >= 0) & (query < units)).all())
    part.require(inside, law, f"{query.tolist()} of {units} units, {where}")
    counts = torch.zeros(rows, units, dtype=torch.long).scatter_add(1, query, torch.ones_like(query))
    part.require(counts.max() <= 1, law, f"{query.tolist()} repeat themselves, {where}")
    known = there.gather(1, query).any()
    part.require(not known, law, f"{query.tolist()}, some of which are known, {where}")


@laws.law("as many units are known in every row")
def _check_start(part: Subject, order: Order) -> None:
    def drawn() -> Tensor:
        return _walked(order, lambda query: torch.zeros(query.shape))

    law = "a start's randomness is torch's default generator"
    first, again = (laws.with_seed(3, drawn) for _ in range(2))
    part.require(torch.equal(first, again), law, "two generations after one seed differ in their order")
    law, known = "rows that know different numbers of units are refused", torch.zeros(2, SIZES[0]).bool()
    known[0, 0] = True
    refused = False
    try:
        order.start(2, SIZES[0], known=known, device=torch.device("cpu"))
    except ValueError:
        refused = True
    part.require(refused, law, "rows that know 1 and 0 units are taken")


def _walked(order: Order, score: Callable[[Tensor], Tensor]) -> Tensor:
    """In which step each unit is kept, `[B, L]`."""
    state: OrderState = order.start(ROWS, SIZES[0], device=torch.device("cpu"))
    found = torch.full((ROWS, SIZES[0]), -1)
    for step in range(order.num_steps(SIZES[0])):
        query = order.query(state)
        keep, state = order.commit(state, query, score(query) if order.needs_density else None)
        found = found.scatter(1, query, torch.where(keep, step, found.gather(1, query)))
    return found


@laws.law("a score that is asked for is read")
def _check_score(part: Subject, order: Order) -> None:
    """Scores far apart, and the same the other way round: not the same units are kept first."""
    if order.num_steps(SIZES[0]) == 1:
        return  # all are kept
    early, late = (
        laws.with_seed(5, _walked, order, lambda query, sign=sign: sign * 1e6 * query.float())
        for sign in (1, -1)
    )
    seen = "the same draws are kept when the best scores become the worst"
    part.require(not torch.equal(early, late), "a score that is asked for is read", seen)


@laws.law("device follows the input")
def _check_device(part: Subject, order: Order) -> None:
    device = laws.accelerator()
    if device is None:
        return
    laws.check_device(part, order.plan(_valid().to(device)).predict, device, "a plan")
    state = order.start(ROWS, SIZES[0], device=device)
    query = order.query(state)
    keep, _ = order.commit(state, query, _score(query) if order.needs_density else None)
    laws.check_device(part, query, device, "a query")
    laws.check_device(part, keep, device, "what is kept")
