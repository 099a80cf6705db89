from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from calmkit.samplers import rejection
from calmkit.samplers.rejection import RejectionSampler, Trial, advance, first_agreeing_tuple

CHUNKS = torch.tensor(
    [[0, 1], [0, 2], [3, 1], [3, 2]]
)  # they share tokens: only whole chunks tell them apart


class Source:
    """Independent draws of a known law, and a record of what each row was given."""

    def __init__(self, *p: float, rows: int = 1) -> None:
        self.p = torch.tensor(p)
        self.given: list[list[Tensor]] = [[] for _ in range(rows)]
        self.calls: list[tuple[int, int]] = []

    def __call__(self, n: int, rows: Tensor) -> Tensor:
        ids = CHUNKS[torch.multinomial(self.p, n * len(rows), replacement=True).view(n, len(rows))]
        self.calls.append((n, len(rows)))
        for column, row in enumerate(rows.tolist()):
            self.given[row].append(ids[:, column])
        return ids


def chi_square(ids: Tensor, law: Tensor) -> float:
    seen = (ids[:, None] == CHUNKS[: len(law)]).all(-1).double().mean(0)
    return ((seen - law).square() / law).sum().item() * len(ids)


def algorithm_1(labels: list[int], coins: list[float], exponent: float) -> int:
    """The paper's Algorithm 1 on a given stream, line by line; -1 where the stream ends."""
    n, at = math.floor(exponent), 0
    a = exponent - n
    while at + n <= len(labels):
        proposed = labels[at : at + n]
        at += n
        if len(set(proposed)) > 1:
            continue
        if a == 0:
            return at - 1
        i = 1
        while True:
            if at == len(labels):
                return -1
            at += 1
            if labels[at - 1] == proposed[0]:
                return at - 1
            if coins[at - 1] < a / i:
                break
            i += 1
    return -1


def run(labels: Tensor, coins: Tensor, exponent: float, blocks: list[int]) -> list[int]:
    """`advance` over streams of labels [N, R] that come in blocks; every row is kept to the end."""
    trial, end = Trial.fresh(labels.shape[1], labels.device), 0
    result = torch.full(labels.shape[1:], -1)
    for fresh in blocks:
        end += fresh
        found, trial = advance(CHUNKS[labels[:end]], coins[:end], fresh, trial, exponent)
        result = torch.where(result < 0, found, result)
    return result.tolist()


@pytest.mark.parametrize("exponent", [1.0, 1.2, 1.9, 2.0, 2.5, 3.0, 3.3])
@pytest.mark.parametrize("blocks", [[40], [4, 1, 7, 12, 16], [3] + [1] * 37])
def test_vectorised_form_is_algorithm_1_draw_by_draw(exponent: float, blocks: list[int]) -> None:
    """However the stream is cut: places of accepted draws are those of the loop, row by row."""
    labels, coins = torch.randint(4, (40, 300)), torch.rand(40, 300)
    columns = zip(labels.T.tolist(), coins.T.tolist(), strict=True)
    expected = [algorithm_1(row, coin, exponent) for row, coin in columns]
    assert run(labels, coins, exponent, blocks) == expected
    assert len(set(expected)) > (0 if exponent == 1 else 5)


def test_stream_by_hand() -> None:
    """1/T = 2: pairs are (0 1) (1 0) (2 2), so the equal neighbours in places 1 and 2 do not count."""
    labels = torch.tensor([0, 1, 1, 0, 2, 2])[:, None]
    assert run(labels, torch.zeros(6, 1), 2.0, [6]) == [5]
    # 1/T = 2.5: (2 2) proposes; place 2 fails, coin .9 >= .5; place 3 fails, coin .2 < .5/2 ends it, .3 not
    labels = torch.tensor([2, 2, 0, 1, 2])[:, None]
    coins = torch.tensor([[0.0, 0.0, 0.9, coin, 0.0] for coin in (0.2, 0.3)]).T
    assert run(labels.expand(5, 2), coins, 2.5, [5]) == [-1, 4]


P = (0.45, 0.25, 0.2, 0.1)
TEMPERATURES = [1.0, 0.9, 0.7, 0.5, 0.4, 1 / 3]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_law_is_exact(temperature: float) -> None:
    rows = 8000
    choice = RejectionSampler(temperature=temperature).choose(Source(*P, rows=rows), torch.arange(rows))
    law = torch.tensor(P) ** (1 / temperature)
    # chi-square with 3 degrees of freedom exceeds 33 with probability 3e-7
    assert chi_square(choice.data, law / law.sum()) < 33
    torch.testing.assert_close(choice.level, torch.full((rows,), 1 / temperature))


def test_golden_law_at_one_half() -> None:
    choice = RejectionSampler().choose(Source(0.5, 0.3, 0.2, rows=10000), torch.arange(10000))
    # chi-square with 2 degrees of freedom exceeds 30 with probability e^-15 = 3e-7
    assert chi_square(choice.data, torch.tensor([0.65789, 0.23684, 0.10526])) < 30


def expected_draws(temperature: float) -> float:
    """(n + 1{a > 0} sum P^(1/T - 1)) / sum P^(1/T), with 1/T = n + a."""
    exponent = 1 / temperature
    whole = round(exponent) if math.isclose(exponent, round(exponent)) else math.floor(exponent)
    rest = 0.0 if math.isclose(exponent, whole) else sum(p ** (exponent - 1) for p in P)
    return (whole + rest) / sum(p**exponent for p in P)


def test_expected_draws_by_hand() -> None:
    """One at T = 1; else n over .2025 + .0625 + .04 + .01 and .091125 + .015625 + .008 + .001."""
    assert expected_draws(1.0) == pytest.approx(1)
    assert expected_draws(0.5) == pytest.approx(2 / 0.315)
    assert expected_draws(1 / 3) == pytest.approx(3 / 0.11575)
    assert expected_draws(0.4) == pytest.approx(13.54, abs=0.005)  # as calculated elsewhere


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_cost_is_the_formula(temperature: float) -> None:
    """What Algorithm 1 alone would have drawn is index + 1; blocks draw more, and `draws` counts that."""
    rows, expected = 8000, expected_draws(temperature)
    choice = RejectionSampler(temperature=temperature).choose(Source(*P, rows=rows), torch.arange(rows))
    used = (choice.index + 1).double()
    # 6 standard errors: false alarm 2e-9 for a Gaussian mean
    assert used.mean().item() == pytest.approx(expected, abs=6 * used.std().item() / rows**0.5 + 1e-9)
    assert (choice.draws >= choice.index + 1).all()
    assert choice.draws.double().mean().item() < 3 * expected + 4  # blocks waste at most that


def test_first_agreeing_tuple_by_hand() -> None:
    """Pairs: (0 0); (0 1) (1 0) (2 2); (0 1) (1 1); (0 1) (2 0) (1 3), and a draw that fills none."""
    streams = [[0, 0, 1, 1, 2, 2, 3], [0, 1, 1, 0, 2, 2, 2], [0, 1, 1, 1, 2, 2, 3], [0, 1, 2, 0, 1, 3, 3]]
    chunks = CHUNKS[torch.tensor(streams).T]
    assert first_agreeing_tuple(chunks, 2).tolist() == [0, 2, 1, -1]
    assert first_agreeing_tuple(chunks, 3).tolist() == [-1, -1, -1, -1]
    assert first_agreeing_tuple(chunks, 1).tolist() == [0, 0, 0, 0]
    assert first_agreeing_tuple(chunks[:1], 2).tolist() == [-1] * 4  # too few draws for one tuple


@pytest.mark.parametrize(("agreement", "tuples"), [(1, 3), (2, 3), (3, 2)])
def test_first_agreeing_tuple_has_the_exact_law(agreement: int, tuples: int) -> None:
    """Every stream of three chunks, weighed by its probability: no chance and no tolerance is involved.

    Tuple j is reached with probability (1 - Z)^j and gives x with P(x)^n, so it is P^n / Z whatever j, and
    the draws are n / Z on average when streams don't end.
    """
    p = torch.tensor([0.5, 0.3, 0.2])
    streams = torch.tensor(list(product(range(3), repeat=agreement * tuples))).T  # [N, 3^N]
    weight = p[streams].prod(0)
    found = first_agreeing_tuple(streams.unsqueeze(-1), agreement)
    chosen = streams[found.clamp(min=0) * agreement, torch.arange(streams.shape[1])]
    sharp = p**agreement
    total = sharp.sum()
    for j in range(tuples):
        for x in range(3):
            seen = weight[(found == j) & (chosen == x)].sum()
            torch.testing.assert_close(seen, (1 - total) ** j * sharp[x])
    torch.testing.assert_close(weight[found == -1].sum(), (1 - total) ** tuples)


def test_whole_inverse_takes_the_first_agreeing_tuple_of_all_its_draws() -> None:
    """The sampler's blocks are that pure function on the whole stream of a row."""
    source = Source(0.4, 0.3, 0.2, 0.1, rows=300)
    choice = RejectionSampler(temperature=1 / 3).choose(source, torch.arange(300))
    for row in range(300):
        stream = torch.cat(source.given[row]).unsqueeze(1)
        assert choice.index[row] == (first_agreeing_tuple(stream, 3)[0] + 1) * 3 - 1


def test_index_draws_and_rows_are_the_rows_own() -> None:
    source, rows = Source(0.4, 0.3, 0.3, rows=90), torch.arange(89, 9, -2)
    choice = RejectionSampler(temperature=0.3).choose(source, rows)
    for place, row in enumerate(rows.tolist()):
        given = torch.cat(source.given[row])
        assert choice.draws[place] == len(given)
        assert choice.data[place].equal(given[choice.index[place]])
    assert sum(len(given) > 0 for given in source.given) == len(rows)
    active = [count for _, count in source.calls]
    assert active == sorted(active, reverse=True)  # rows that are done ask for no more
    assert active[-1] < active[0]


def test_temperature_one_is_one_draw() -> None:
    source = Source(0.5, 0.3, 0.2, rows=10000)
    choice = RejectionSampler(temperature=1.0).choose(source, torch.arange(10000))
    assert source.calls == [(1, 10000)]
    assert choice.draws.eq(1).all()
    assert choice.index.eq(0).all()
    assert choice.level.eq(1).all()
    assert chi_square(choice.data, torch.tensor([0.5, 0.3, 0.2])) < 30  # false alarm 3e-7


def test_one_call_never_asks_for_more_than_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 rows at T = 1/6 many need hundreds of draws; doubling alone would ask for 192 of each."""
    monkeypatch.setattr(rejection, "BLOCK_DRAWS", 2000)
    source = Source(0.3, 0.3, 0.2, 0.2, rows=100)
    RejectionSampler(temperature=1 / 6, max_draws=2000).choose(source, torch.arange(100))
    assert max(n * count for n, count in source.calls[1:]) in range(1900, 2401)  # 24 of each in the first
    assert source.calls[0] == (24, 100)


def distinct(n: int, rows: Tensor) -> Tensor:
    """Chunks that never repeat within a call."""
    return torch.arange(n)[:, None, None].expand(n, len(rows), 2)


def test_ceiling_falls_back_and_reports_it() -> None:
    given: list[int] = []

    def draw(n: int, rows: Tensor) -> Tensor:
        ids = distinct(n, rows) + sum(given)
        given.append(n)
        return ids

    choice = RejectionSampler(temperature=0.5, max_draws=50).choose(draw, torch.arange(4))
    assert sum(given) == 50
    assert choice.level.isnan().all()
    assert choice.draws.tolist() == [50] * 4
    assert choice.data[:, 0].equal(choice.index)


def test_ceiling_uses_the_agreement_there_is() -> None:
    """1/T = 2.5; places 1 and 2 agree but are no pair of stage A: `vote` at n = 2 finds them."""

    def draw(n: int, rows: Tensor) -> Tensor:
        ids = distinct(n, rows).clone()
        ids[2] = ids[1]
        return ids

    choice = RejectionSampler(temperature=0.4, max_draws=8).choose(draw, torch.arange(3))
    assert choice.level.isnan().all()
    assert set(choice.index.tolist()) <= {1, 2}


def test_same_seed_same_choice() -> None:
    def once() -> Tensor:
        torch.manual_seed(5)
        source = Source(0.4, 0.3, 0.3, rows=100)
        return RejectionSampler(temperature=0.35).choose(source, torch.arange(100)).index

    assert once().equal(once())


def test_a_generator_is_the_only_randomness_of_stage_b() -> None:
    """Fixed draws at 1/T = 1.5: the coins alone decide how long stage B holds on."""
    given = torch.randint(3, (4000, 100))

    def once(default_seed: int, seed: int) -> Tensor:
        seen = [0]

        def draw(n: int, rows: Tensor) -> Tensor:
            ids = CHUNKS[given[seen[0] : seen[0] + n, rows]]
            seen[0] += n
            return ids

        torch.manual_seed(default_seed)
        sampler = RejectionSampler(temperature=1 / 1.5, max_draws=4000)
        return sampler.choose(draw, torch.arange(100), torch.Generator().manual_seed(seed)).index

    assert once(0, 5).equal(once(1, 5))
    assert not once(0, 5).equal(once(0, 6))


@pytest.mark.parametrize(
    ("temperature", "max_draws", "name"),
    [
        (0.0, 100, "temperature"),
        (1.5, 100, "temperature"),
        (0.1, 9, "max_draws"),
        (1e-320, 100, "temperature"),  # 1/T is infinite
        (math.nan, 100, "temperature"),
        (1e-307, 100, "max_draws"),  # 1/T is not, a thousand times it would be
    ],
)
def test_refuses_impossible_settings_by_name(temperature: float, max_draws: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"rejection: {name} .*got .*would do"):
        RejectionSampler(temperature=temperature, max_draws=max_draws)
