"""Rows drawn in random order have the law of the sum over orders, on three units of two values each.

The toy is a table: the probability that unit i is 1, given what is known of the others. It was drawn at
random, so its orders contradict each other and the law of the row depends on how they are mixed.
"""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import Order
from calmkit.orders.cosine import cosine_counts
from calmkit.orders.left_to_right import LeftToRight
from calmkit.orders.random import RandomOrder

UNITS, ROWS = 3, 100_000
FALSE_ALARM = 1e-9


@pytest.fixture
def table() -> Tensor:
    """`[unit, state]`; a state is three digits to the base 3: 0 unknown, 1 and 2 the values 0 and 1."""
    return torch.rand(UNITS, 3**UNITS) * 0.8 + 0.1


def state_of(x: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, x + 1, 0) @ torch.tensor([9, 3, 1])


def exact(table: Tensor, orders: list[tuple[int, ...]], counts: tuple[int, ...]) -> Tensor:
    """Probability of each of the eight rows: a mean over orders; units of a step are drawn apart."""
    law = torch.zeros(2**UNITS)
    for index, values in enumerate(product((0, 1), repeat=UNITS)):
        x = torch.tensor(values)
        for order in orders:
            known, probability, at = torch.zeros(UNITS, dtype=torch.bool), torch.ones(()), 0
            for count in counts:
                state, units = state_of(x, known), order[at : at + count]
                for unit in units:
                    one = table[unit, state]
                    probability = probability * (one if x[unit] == 1 else 1 - one)
                known[list(units)], at = True, at + count
            law[index] += probability / len(orders)
    return law


def drawn(table: Tensor, order: Order) -> Tensor:
    """How often each of the eight rows comes."""
    x, known = torch.zeros(ROWS, UNITS, dtype=torch.long), torch.zeros(ROWS, UNITS, dtype=torch.bool)
    state = order.start(ROWS, UNITS, device=x.device)
    for _ in range(order.num_steps(UNITS)):
        query = order.query(state)
        values = torch.bernoulli(table[query, state_of(x, known).unsqueeze(1)]).long()
        keep, state = order.commit(state, query)
        assert keep.all()
        x, known = x.scatter(1, query, values), known.scatter(1, query, True)
    return torch.bincount(x @ torch.tensor([4, 2, 1]), minlength=2**UNITS)


def chance(counts: Tensor, law: Tensor) -> float:
    """Chance of counts so far from the law: Pearson's chi squared of 7 degrees of freedom."""
    squared = ((counts - ROWS * law) ** 2 / (ROWS * law)).sum()
    return torch.special.gammaincc(torch.tensor(3.5), squared / 2).item()


@pytest.mark.parametrize("steps", [None, 2])
def test_a_row_has_the_law_of_the_sum_over_orders(table: Tensor, steps: int | None) -> None:
    counts, orders = cosine_counts(UNITS, steps or UNITS), list(permutations(range(UNITS)))
    law = exact(table, orders, counts)
    assert abs(law.sum() - 1) < 1e-12
    found = drawn(table, RandomOrder(steps=steps))
    assert chance(found, law) > FALSE_ALARM
    one_order = exact(table, [(0, 1, 2)], counts)  # the toy can tell: its orders differ
    assert chance(found, one_order) < FALSE_ALARM


def test_left_to_right_has_the_law_of_one_order(table: Tensor) -> None:
    found = drawn(table, LeftToRight())
    assert chance(found, exact(table, [(0, 1, 2)], (1, 1, 1))) > FALSE_ALARM
    all_orders = exact(table, list(permutations(range(UNITS))), (1, 1, 1))
    assert chance(found, all_orders) < FALSE_ALARM
