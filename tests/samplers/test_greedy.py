from __future__ import annotations

from math import factorial

import pytest
import torch
from torch import Tensor

from calmkit.samplers.greedy import GreedySampler, mode
from calmkit.samplers.vote import vote

CHUNKS = torch.tensor([[0, 1], [0, 2], [3, 1]])  # they share tokens: only whole chunks tell them apart
P = (0.5, 0.3, 0.2)


def source(n: int, rows: Tensor) -> Tensor:
    return CHUNKS[torch.multinomial(torch.tensor(P), n * len(rows), replacement=True).view(n, len(rows))]


def test_mode_by_hand() -> None:
    """Rows: 1 came three times; 3 and 4 came twice and 4 was first; nothing came twice, so the first draw."""
    labels = torch.tensor([[2, 1, 4, 1, 1], [4, 3, 3, 4, 0], [3, 1, 4, 0, 2]]).T
    index, count = mode(labels)
    assert index.tolist() == [1, 0, 0]
    assert count.tolist() == [3, 2, 1]


def test_choice_names_the_draw_its_cost_and_the_mode_s_count() -> None:
    def draw(n: int, rows: Tensor) -> Tensor:
        assert (n, rows.tolist()) == (5, [4, 9])
        return CHUNKS[torch.tensor([[0, 2], [1, 2], [2, 1], [1, 1], [0, 0]])]

    choice = GreedySampler(candidates=5).choose(draw, torch.tensor([4, 9]))
    assert choice.data.tolist() == [[0, 1], [3, 1]]  # row 4: 0 and 1 twice, 0 first; row 9: 2 and 1 twice
    assert choice.index.tolist() == [0, 0]
    assert choice.draws.tolist() == [5, 5]
    assert choice.level.tolist() == [2.0, 2.0]


def first_mode_law(candidates: int) -> list[float]:
    """P(chunk is the mode, ties to the first drawn), over all counts of three chunks.

    Given the counts, all orders are equally likely, so among the chunks that tie each is as likely first.
    """
    law = [0.0] * 3
    for a in range(candidates + 1):
        for b in range(candidates + 1 - a):
            counts = (a, b, candidates - a - b)
            ways = factorial(candidates) // (factorial(a) * factorial(b) * factorial(counts[2]))
            chance = ways * P[0] ** a * P[1] ** b * P[2] ** counts[2]
            best = [x for x in range(3) if counts[x] == max(counts)]
            for x in best:
                law[x] += chance / len(best)
    return law


def test_first_mode_law_by_hand() -> None:
    """Of two draws the first is taken, so P itself; of three, two or three equal ones or else the first."""
    assert first_mode_law(2) == pytest.approx(P)
    all_differ = 6 * 0.5 * 0.3 * 0.2
    expected = [p**3 + 3 * p**2 * (1 - p) + all_differ / 3 for p in P]
    assert first_mode_law(3) == pytest.approx(expected)


@pytest.mark.parametrize("candidates", [3, 10])
def test_law(candidates: int) -> None:
    rows = 20000
    choice = GreedySampler(candidates=candidates).choose(source, torch.arange(rows))
    seen = (choice.data[:, None] == CHUNKS).all(-1).double().mean(0)
    law = torch.tensor(first_mode_law(candidates))
    # chi-square with 2 degrees of freedom exceeds 31 with probability 2e-7
    assert ((seen - law).square() / law).sum().item() * rows < 31


def test_many_draws_find_the_most_likely_chunk() -> None:
    """The mode of N draws is another chunk with probability at most 2 exp(-N (.5 - .3)^2 / 2) (Hoeffding for
    the difference of two counts, two rivals): 2e-8 per row at N = 920, 2e-6 for 100 rows; seeded."""
    choice = GreedySampler(candidates=920).choose(source, torch.arange(100))
    assert (choice.data == CHUNKS[0]).all()


def test_is_the_vote_of_all_draws_but_for_ties() -> None:
    """`vote` with n = N weighs binom(c, m) with m the largest count: the modes alone, ties at random."""
    labels = torch.randint(4, (9, 3000))
    index, level = vote(labels, 9)
    first, count = mode(labels)
    assert level.equal(count)
    column = torch.arange(3000)
    counts = torch.nn.functional.one_hot(labels, 4).sum(0)  # [rows, labels]
    tied = (counts == count[:, None]).sum(1) > 1
    assert labels[index, column][~tied].equal(labels[first, column][~tied])
    assert (~tied).sum() > 1000


def test_draws_no_number_of_its_own() -> None:
    before = torch.get_rng_state()
    GreedySampler(candidates=4).choose(lambda n, rows: CHUNKS[:1].expand(n, len(rows), 2), torch.arange(3))
    assert torch.get_rng_state().equal(before)


def test_one_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="greedy: candidates must be at least 2, got 1; 200 would do"):
        GreedySampler(candidates=1)
