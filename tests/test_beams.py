"""Beam search against brute force on a world whose units take three values."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.beams import beam_rows, is_repeated
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import Context, EventSpec

V, ROWS, UNITS = 3, 2, 4


class Chain:
    """A chain of ids per row: what comes next hangs on the whole past, hashed to a table of log laws.

    The state is the past of each partial row, the first id telling the row itself; h is its number.
    """

    def __init__(self, seed: int = 0) -> None:
        self.table = torch.randn(1000, V, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
        self.advanced = 0

    def law(self, past: tuple[int, ...]) -> Tensor:
        number = 0
        for value in past:
            number = (7 * number + value + 1) % 1000
        return self.table[number]

    def context(self, state: list[tuple[int, ...]]) -> Context:
        return Context(torch.stack([self.law(past) for past in state]))

    def draw(self, context: Context, fan: int) -> Tensor:
        """All values in turn, so that a fan of V holds each once."""
        return (torch.arange(fan) % V).view(fan, 1, 1).expand(fan, len(context.h), 1)

    def log_prob(self, context: Context, values: Tensor) -> Tensor:
        return context.h.expand(len(values), -1, -1).gather(-1, values).squeeze(-1)

    def advance(self, state: list[tuple[int, ...]], values: Tensor, rows: Tensor) -> Any:
        self.advanced += 1
        longer = [
            (*state[row], int(value)) for row, value in zip(rows.tolist(), values.squeeze(-1), strict=True)
        ]
        return self.context(longer), longer

    def search(self, beams: int, fan: int = V, units: int = UNITS) -> Any:
        start: list[tuple[int, ...]] = [(row,) for row in range(ROWS)]
        asked: Any = {"draw": self.draw, "log_prob": self.log_prob, "advance": self.advance}
        return beam_rows(self.context(start), start, num_units=units, beams=beams, fan=fan, **asked)

    def total(self, row: int, values: tuple[int, ...]) -> float:
        return sum(self.law((row, *values[:i]))[value].item() for i, value in enumerate(values))


def test_with_every_value_and_beams_for_every_row_all_rows_come_out_best_first() -> None:
    chain = Chain()
    found = chain.search(beams=V**UNITS)
    assert found.values.shape == (ROWS, V**UNITS, UNITS, 1)
    for row in range(ROWS):
        best = sorted(product(range(V), repeat=UNITS), key=lambda values: -chain.total(row, values))
        assert [tuple(values) for values in found.values[row, :, :, 0].tolist()] == best
        expected = torch.tensor([chain.total(row, values) for values in best])
        torch.testing.assert_close(found.log_prob[row], expected)


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_partial_rows_go_on_as_by_brute_force(beams: int, seed: int) -> None:
    """Beam search written out on tuples: all continuations of what is kept, sorted, cut."""
    chain = Chain(seed)
    found = chain.search(beams)
    for row in range(ROWS):
        kept: list[tuple[int, ...]] = [()]
        for _ in range(UNITS):
            longer = [(*values, value) for values in kept for value in range(V)]
            kept = sorted(longer, key=lambda values: -chain.total(row, values))[:beams]
        assert [tuple(values) for values in found.values[row, :, :, 0].tolist()] == kept


def test_two_beams_find_a_row_that_the_best_first_unit_misses() -> None:
    """The first id 0 is likelier, the whole row (1, 1) is: -0.6 - 1.1 against -0.8 - 0.1 by hand."""
    chain = Chain()
    laws = {(0,): [-0.6, -0.8], (0, 0): [-1.1, -1.2], (0, 1): [-2.4, -0.1]}
    laws |= {(1, *past[1:]): law for past, law in laws.items()}
    chain.law = lambda past: torch.tensor([*laws[past], -9.0])  # type: ignore[method-assign]
    assert chain.search(1, units=2).values[:, 0, :, 0].tolist() == [[0, 0]] * ROWS
    two = chain.search(2, units=2)
    assert two.values[:, 0, :, 0].tolist() == [[1, 1]] * ROWS
    torch.testing.assert_close(two.log_prob, torch.tensor([[-0.9, -1.7]] * ROWS))


def test_a_value_drawn_twice_fills_one_beam() -> None:
    chain = Chain()
    plain, twice = chain.search(2), chain.search(2, fan=3 * V)
    assert torch.equal(plain.values, twice.values)
    torch.testing.assert_close(plain.log_prob, twice.log_prob)
    assert is_repeated(torch.tensor([[[1, 2]], [[1, 3]], [[1, 2]], [[1, 2]]])).squeeze(1).tolist() == [
        *(False, False),
        *(True, True),
    ]


def test_where_fewer_rows_differ_than_beams_the_rest_is_marked() -> None:
    chain = Chain()
    found = chain.search(beams=4, fan=2, units=1)  # two values of each row
    assert found.values.shape[1] == 2
    chain.draw = lambda context, fan: torch.zeros(fan, len(context.h), 1, dtype=torch.long)  # type: ignore[method-assign]
    alone = chain.search(beams=4, fan=2, units=3)
    assert (alone.log_prob[:, 0] == torch.tensor([chain.total(row, (0, 0, 0)) for row in range(ROWS)])).all()
    assert (alone.log_prob[:, 1:] == -torch.inf).all()


def test_the_last_unit_is_not_fed_back() -> None:
    chain = Chain()
    chain.search(beams=2)
    assert chain.advanced == UNITS - 1


@pytest.mark.parametrize("name", ["num_units", "beams", "fan"])
def test_nothing_to_search_is_refused(name: str) -> None:
    chain = Chain()
    sizes: dict[str, Any] = {"num_units": 1, "beams": 1, "fan": 1, name: 0}
    asked: Any = {"draw": chain.draw, "log_prob": chain.log_prob, "advance": chain.advance}
    with pytest.raises(ValueError, match=f"beam_rows: {name} must be at least 1, got 0"):
        beam_rows(chain.context([(0,)]), [(0,)], **sizes, **asked)


def test_more_draws_of_a_mixture_find_denser_rows() -> None:
    """Latents [B, W, L, D]: what is kept of 64 draws is denser than a draw, by the head's own density."""
    head = MixtureHead(4, EventSpec((3,)), num_components=2, depth=1)
    start = torch.randn(5, 4)

    def log_prob(context: Context, values: Tensor) -> Tensor:
        return head.log_prob(Context(context.h.expand(len(values), -1, -1)), values)

    def advance(state: Tensor, values: Tensor, rows: Tensor) -> tuple[Context, Tensor]:
        moved = state[rows] + torch.nn.functional.pad(values, (0, 1))
        return Context(moved), moved

    asked: Any = {"draw": head.sample, "log_prob": log_prob, "advance": advance}
    one, many = (
        beam_rows(Context(start), start, num_units=3, beams=beams, fan=fan, **asked)
        for beams, fan in ((1, 1), (2, 64))
    )
    assert many.values.shape == (5, 2, 3, 3)
    assert (
        many.log_prob[:, 0] > one.log_prob[:, 0]
    ).all()  # 5 rows, each wrong in fewer than 1 in 64^3 seeds
    total, state = torch.zeros(5), start
    for unit in range(3):  # the score is the sum of what the head says of the row that came out
        total = total + head.log_prob(Context(state), many.values[:, 0, unit])
        _, state = advance(state, many.values[:, 0, unit], torch.arange(5))
    torch.testing.assert_close(many.log_prob[:, 0], total)


def test_ids_of_a_softmax_head_are_searched_exactly() -> None:
    """K = 1 ids: with a fan that surely holds all three, the best of three values comes out."""
    head = LocalARHead(4, EventSpec((1,), V))
    h = torch.randn(6, 4)
    laws = torch.stack([head.log_prob(Context(h), torch.full((6, 1), value)) for value in range(V)], -1)
    assert laws.exp().min() > 0.05  # so 600 draws miss a value with probability below 18 e^-30

    def log_prob(context: Context, values: Tensor) -> Tensor:
        return head.log_prob(Context(context.h.expand(len(values), -1, -1)), values)

    asked: Any = {
        "draw": head.sample,
        "log_prob": log_prob,
        "advance": lambda *_: 1 / 0,
    }  # one unit is not fed back
    found = beam_rows(Context(h), None, num_units=1, beams=2, fan=600, **asked)
    torch.testing.assert_close(found.log_prob, laws.topk(2).values)
    assert torch.equal(found.values[:, :, 0, 0], laws.topk(2).indices)
