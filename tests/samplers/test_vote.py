from __future__ import annotations

import math
import re
from itertools import product
from math import comb, factorial

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import Draw
from calmkit.samplers.vote import VoteSampler, vote

CHUNKS = torch.tensor([[0, 1], [0, 2], [3, 1]])  # they share tokens: only whole chunks tell them apart
P = (0.5, 0.3, 0.2)


def source(p: tuple[float, ...] = P) -> Draw:
    def draw(n: int, rows: Tensor) -> Tensor:
        return CHUNKS[torch.multinomial(torch.tensor(p), n * len(rows), replacement=True).view(n, len(rows))]

    return draw


def shares(ids: Tensor) -> Tensor:
    return (ids[:, None] == CHUNKS).all(-1).double().mean(0)


def chi_square(ids: Tensor, law: tuple[float, ...]) -> float:
    expected = torch.tensor(law)
    return ((shares(ids) - expected).square() / expected).sum().item() * len(ids)


def exact_law(n: int, candidates: int) -> tuple[float, ...]:
    """The law of Algorithm 2 by enumeration of all counts of three chunks."""
    law = [0.0, 0.0, 0.0]
    for a, b in product(range(candidates + 1), repeat=2):
        counts = (a, b, candidates - a - b)
        if counts[2] < 0:
            continue
        ways = factorial(candidates) // (factorial(a) * factorial(b) * factorial(counts[2]))
        chance = ways * P[0] ** a * P[1] ** b * P[2] ** counts[2]
        m = min(n, max(counts))
        weights = [comb(c, m) for c in counts]
        for x in range(3):
            law[x] += chance * weights[x] / sum(weights)
    return tuple(law)


def test_enumeration_agrees_with_the_golden_values() -> None:
    assert exact_law(2, 2) == pytest.approx(P)  # N = 2 gives p itself
    assert exact_law(2, 20) == pytest.approx(
        (0.636, 0.249, 0.115), abs=2e-3
    )  # golden to 2 in the third digit
    assert exact_law(2, 200) == pytest.approx(
        (0.6579, 0.2368, 0.1053), abs=4e-3
    )  # near the limit p^2 / sum p^2


@pytest.mark.parametrize(("candidates", "rows"), [(2, 20000), (20, 20000), (200, 3000)])
def test_law_at_one_half(candidates: int, rows: int) -> None:
    choice = VoteSampler(temperature=0.5, candidates=candidates).choose(source(), torch.arange(rows))
    # chi-square with 2 degrees of freedom exceeds 30 with probability e^-15 = 3e-7
    assert chi_square(choice.data, exact_law(2, candidates)) < 30


def test_law_at_one_third_differs_from_one_half() -> None:
    choice = VoteSampler(temperature=1 / 3, candidates=20).choose(source(), torch.arange(20000))
    assert chi_square(choice.data, exact_law(3, 20)) < 30  # false alarm 3e-7
    assert chi_square(choice.data, exact_law(2, 20)) > 30


def test_weights_by_hand() -> None:
    """Counts 3 and 2: binom(3, 2) : binom(2, 2) = 3 : 1; the draws of a chunk are equally likely."""
    labels = torch.tensor([0, 1, 0, 1, 0])[:, None].expand(5, 20000)
    index, level = vote(labels, 2)
    assert level.eq(2).all()
    expected = torch.tensor([1 / 4, 1 / 8, 1 / 4, 1 / 8, 1 / 4])
    seen = torch.bincount(index, minlength=5) / 20000
    # chi-square with 4 degrees of freedom exceeds 34.5 with probability 6e-7
    assert ((seen - expected).square() / expected).sum().item() * 20000 < 34.5


def test_falls_back_to_the_largest_agreement_and_says_so() -> None:
    """Asked for 3: no two equal -> 1; a pair -> 2, and the pair is chosen; three equal -> 3."""
    labels = torch.tensor([[0, 0, 0], [1, 1, 1], [2, 0, 1], [3, 2, 1]]).repeat(1, 100)
    index, level = vote(labels, 3)
    assert level.tolist() == [1, 2, 3] * 100
    # each place has chance 1/4 at least, so one is missed in 100 rows with probability 4 * .75^100 = 1e-12
    assert [set(index[row::3].tolist()) for row in range(3)] == [{0, 1, 2, 3}, {0, 2}, {1, 2, 3}]


def test_large_counts_do_not_overflow() -> None:
    """binom(1500, 700) is 1e448; beside it binom(500, 500) = 1 is never chosen."""
    labels = (torch.arange(2000) % 4 == 0).long()[:, None].expand(2000, 50)
    index, level = vote(labels, 500)
    assert level.eq(500).all()
    assert (index % 4 != 0).all()


def test_choice_names_the_draw_and_its_cost() -> None:
    made: list[Tensor] = []

    def draw(n: int, rows: Tensor) -> Tensor:
        made.append(source()(n, rows))
        return made[-1]

    choice = VoteSampler(temperature=0.5, candidates=7).choose(draw, torch.tensor([4, 2, 9]))
    (ids,) = made
    assert ids.shape == (7, 3, 2)
    assert choice.data.equal(torch.stack([ids[i, r] for r, i in enumerate(choice.index.tolist())]))
    assert choice.draws.tolist() == [7, 7, 7]
    assert choice.level.tolist() == [2.0, 2.0, 2.0]  # 7 draws of 3 chunks always hold a pair


def test_temperature_one_is_one_draw() -> None:
    choice = VoteSampler(temperature=1.0, candidates=50).choose(source(), torch.arange(20000))
    assert choice.draws.eq(1).all()
    assert choice.level.eq(1).all()
    assert chi_square(choice.data, P) < 30  # false alarm 3e-7


def test_same_seed_same_choice() -> None:
    def once() -> Tensor:
        torch.manual_seed(5)
        return VoteSampler(candidates=9).choose(source(), torch.arange(100)).index

    assert once().equal(once())


def test_a_generator_is_the_only_randomness_of_the_choice() -> None:
    labels = torch.randint(9, (20, 300))

    def once(default_seed: int, seed: int) -> Tensor:
        torch.manual_seed(default_seed)
        return vote(labels, 2, torch.Generator().manual_seed(seed))[0]

    assert once(0, 5).equal(once(1, 5))
    assert not once(0, 5).equal(once(0, 6))


@pytest.mark.parametrize(("coin", "place"), [(0.0, 6), (1 - 2**-24, 3), (0.4, 6), (0.6, 3)])
def test_a_chunk_of_no_weight_is_never_chosen(
    coin: float, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the places 3 and 6 agree: in float32, at both ends of what a random number can be and between."""
    monkeypatch.setattr(torch, "rand", lambda *shape, dtype, **_: torch.full(shape, coin, dtype=dtype))
    torch.set_default_dtype(torch.float32)
    try:
        index, _ = vote(torch.tensor([0, 1, 2, 3, 4, 5, 3, 7, 8])[:, None], 2)
    finally:
        torch.set_default_dtype(torch.float64)
    assert index.tolist() == [place]


def test_level_by_hand_through_the_sampler() -> None:
    """Asked for three: rows whose largest count is 1, 2, 3 and 5 say so, and never more than asked."""
    columns = [[0, 1, 2, 3, 4], [0, 1, 0, 3, 4], [0, 0, 0, 3, 4], [0, 0, 0, 0, 0]]
    ids = torch.tensor(columns).T.unsqueeze(-1)
    choice = VoteSampler(temperature=1 / 3, candidates=5).choose(lambda n, rows: ids, torch.arange(4))
    assert choice.level.tolist() == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("temperature", "candidates", "name"),
    [
        (0.7, 200, "temperature"),
        (2.0, 200, "temperature"),
        (0.0, 200, "temperature"),
        (0.25, 3, "candidates"),
        (1e-320, 200, "temperature"),  # 1 / temperature is infinite
        (math.inf, 200, "temperature"),
        (math.nan, 200, "temperature"),
    ],
)
def test_refuses_impossible_settings_by_name(temperature: float, candidates: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"vote: .*{name} .*got .*would do"):
        VoteSampler(temperature=temperature, candidates=candidates)


@pytest.mark.parametrize(
    ("temperature", "told"),
    [
        (0.0, "got temperature=0.0; 0.5 would do."),
        (-1.0, "got temperature=-1.0; 0.5 would do."),
        (1e-320, "got temperature=1e-320; 0.5 would do."),
        (2.0, "got temperature=2.0; 1 would do."),  # nor does rejection go above 1
        (0.4, "got temperature=0.4; 0.5, or sampler rejection, would do."),
    ],
)
def test_what_would_do_does(temperature: float, told: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(told)}$"):
        VoteSampler(temperature=temperature)
