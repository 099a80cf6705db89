"""The source's finite sums, against numbers by hand, brute force and its own draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from calmkit.text.markov_source import LARGEST_TABLE, MarkovSource
from calmkit.text.metrics.ngram import _collisions


def test_two_letters_by_hand() -> None:
    """p(b | a) = 1/4 and p(a | b) = 1/2: in the long run a stands for 2/3 of the letters."""
    source = MarkovSource(np.array([[3 / 4, 1 / 4], [1 / 2, 1 / 2]]))
    assert source.laws[1] == pytest.approx([2 / 3, 1 / 3], abs=1e-13)
    assert source.tables[0] == pytest.approx([2 / 3, 1 / 3], abs=1e-13)
    # n = 1: after a 9/16 + 1/16 = 5/8, after b 1/2; 2/3 * 5/8 + 1/3 * 1/2 = 7/12
    assert source.best_brier(1, 1) == pytest.approx(7 / 12)
    assert source.best_brier(5, 1) == pytest.approx(7 / 12)  # more than the order tells no more
    assert source.best_brier(0, 1) == pytest.approx(4 / 9 + 1 / 9)
    # n = 2: after a 9/16 * 5/8 + 1/16 * 1/2 = 49/128, after b 1/4 * (5/8 + 1/2) = 9/32
    assert source.best_brier(1, 2) == pytest.approx(2 / 3 * 49 / 128 + 1 / 3 * 9 / 32)
    assert source.best_brier(0, 2) == pytest.approx(4 / 9 * 5 / 8 + 1 / 9 * 1 / 2)
    assert source.best_brier(1, 0) == 1


def test_entropy_by_hand() -> None:
    """Letters that come alike: ln 4 nats each, and n of them are guessed with chance 4^-n."""
    source = MarkovSource.random(2, 4, 1e9, 3)
    assert source.entropy_rate == pytest.approx(math.log(4), abs=1e-6)
    assert [source.best_brier(2, n) for n in (1, 2, 3)] == pytest.approx([1 / 4, 1 / 16, 1 / 64], rel=1e-6)
    assert source.best_brier_lm(2) == pytest.approx(100 * 4**-2.5, rel=1e-6)


@pytest.mark.parametrize(("order", "alphabet"), [(0, 3), (1, 4), (2, 3), (3, 2)])
def test_the_laws_are_those_of_one_stationary_process(order: int, alphabet: int) -> None:
    source = MarkovSource.random(order, alphabet, 0.4, 1)
    assert len(source.laws) == len(source.tables) == order + 1
    for seen, (law, table) in enumerate(zip(source.laws, source.tables, strict=True)):
        assert law.shape == (alphabet,) * seen
        assert table.shape == (alphabet,) * (seen + 1)
        assert law.sum() == pytest.approx(1)
        assert table.sum(-1) == pytest.approx(np.ones(law.shape))
        joint = law[..., None] * table  # of seen + 1 letters
        if seen:
            assert joint.sum(0) == pytest.approx(law, abs=1e-12)  # the oldest letter left out
        if seen < order:
            assert joint == pytest.approx(source.laws[seen + 1])


@pytest.mark.parametrize(("order", "seen"), [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (3, 1)])
def test_best_brier_and_entropy_by_enumeration(order: int, seen: int) -> None:
    """Every stretch of `seen` + 4 letters, its chance multiplied up from the first `order` letters."""
    source = MarkovSource.random(order, 3, 0.4, 2)
    total = max(order, seen + 4)
    chance = np.empty([3] * total)
    for letters in itertools.product(range(3), repeat=total):
        chance[letters] = source.laws[order][letters[:order]]
        for place in range(order, total):
            chance[letters] *= source.tables[order][letters[place - order : place + 1]]
    given = chance.sum(tuple(range(seen, total)))
    for length in range(1, 5):
        joint = chance.sum(tuple(range(seen + length, total)))
        expected = (joint**2).reshape(3**seen, -1).sum(1) @ (1 / given.ravel())
        assert source.best_brier(seen, length) == pytest.approx(expected, rel=1e-11)
    joint = chance.sum(tuple(range(seen + 1, total)))
    expected = -(joint * np.log(joint / given[..., None])).sum()
    assert source.entropy(seen) == pytest.approx(expected, rel=1e-11)


def test_knowing_more_never_hurts() -> None:
    source = MarkovSource.random(3, 4, 0.3, 5)
    for seen in range(3):
        assert source.entropy(seen + 1) < source.entropy(seen)
        for length in (1, 2, 3, 4):
            assert source.best_brier(seen + 1, length) > source.best_brier(seen, length)
    assert source.entropy_rate == source.entropy(3)


def test_the_recursion_is_that_of_the_counted_models() -> None:
    source = MarkovSource.random(2, 5, 0.3, 5)
    tables = [torch.from_numpy(table) for table in source.tables]
    for seen, terms in enumerate(_collisions(tables)):
        for length in (1, 2, 3, 4):
            ours = torch.from_numpy(source.collisions(length)[seen])
            assert torch.allclose(ours, terms[..., length - 1], rtol=1e-12)


def test_counting_its_letters_gives_its_table_back() -> None:
    """Successive letters of long stretches; and the first letters already follow the long-run law."""
    source = MarkovSource.random(1, 3, 0.5, 4)
    letters = source.draw(np.random.default_rng(0), 20_000, 3)
    assert letters.shape == (20_000, 3)
    assert letters.dtype == np.uint8
    # Hoeffding: a share of 20 000 independent stretches strays by t or more with chance 2 exp(-40000 t^2);
    # 2 * 3 + 9 shares at t = .025 make 4e-10.
    for place in (0, 2):
        share = np.bincount(letters[:, place], minlength=3) / 20_000
        assert np.abs(share - source.laws[1]).max() < 0.025
    pairs = np.bincount(letters[:, 1] * 3 + letters[:, 2], minlength=9).reshape(3, 3) / 20_000
    assert np.abs(pairs - source.laws[1][:, None] * source.tables[1]).max() < 0.025


def test_a_stretch_shorter_than_the_order() -> None:
    source = MarkovSource.random(3, 2, 0.5, 0)
    assert source.draw(np.random.default_rng(0), 5, 2).shape == (5, 2)


def test_its_own_letters_cost_its_entropy() -> None:
    source = MarkovSource.random(2, 4, 2.0, 9)
    letters = source.draw(np.random.default_rng(1), 200_000, 3)
    nats = -np.log(source.tables[2][tuple(letters.T)])
    # Hoeffding: a mean of 200 000 in [0, r] strays by r t or more with chance 2 exp(-400000 t^2), 3e-7 for
    # t = .0063.
    reach = -np.log(source.tables[2].min())
    assert reach < 6
    assert abs(nats.mean() - source.entropy_rate) < 0.0063 * reach


def test_seed_and_settings_make_another_source() -> None:
    first = MarkovSource.random(1, 4, 0.5, 0)
    assert np.array_equal(first.tables[1], MarkovSource.random(1, 4, 0.5, 0).tables[1])
    assert not np.array_equal(first.tables[1], MarkovSource.random(1, 4, 0.5, 1).tables[1])


def test_a_nearly_deterministic_table_has_its_laws_too() -> None:
    """Rows so sure that chances underflow to 0 and contexts never come: no NaN, and the laws still hold."""
    source = MarkovSource.random(2, 3, 1e-3, 0)
    assert (source.tables[2] == 0).any()
    assert all(np.isfinite(table).all() for table in source.tables)
    moved = (source.laws[2][..., None] * source.tables[2]).sum(0)
    assert moved == pytest.approx(source.laws[2], abs=1e-12)
    assert 0 <= source.entropy_rate < 0.2


@pytest.mark.parametrize(
    ("order", "alphabet", "concentration", "words"),
    [
        (-1, 4, 1.0, "^markov: order must be at least 0, got -1; 0 would do"),
        (1, 1, 1.0, "^markov: alphabet must be at least 2, got 1; 2 would do"),
        (0, 257, 1.0, "alphabet must be at most 256, got 257; 256 would do"),
        (1, 4, math.nan, "concentration must be above 0"),
        (1, 4, 1e308, r"concentration must be above 0 and at most 1e\+12"),
        (1, 4, 0.0, "concentration must be above 0"),
        (1, 4, math.inf, "concentration must be above 0"),
        (12, 4, 1.0, r"4\^13 probabilities, more than 1048576; order 9 would do"),
        (10**12, 2, 1.0, r"2\^1000000000001 probabilities.*order 19 would do"),
    ],
)
def test_what_cannot_be_built_is_refused(order: int, alphabet: int, concentration: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MarkovSource.random(order, alphabet, concentration, 0)
    assert LARGEST_TABLE >= 4**10


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.full((2, 3), 1 / 3), r"axes of one length.* got the shape \(2, 3\)"),
        (np.full((2, 2), 0.4), "rows that sum to 0.8"),
        (np.array([[1.5, -0.5], [0.5, 0.5]]), "entries from -0.5"),
        (np.full(257, 1 / 257), "alphabet must be at most 256, got 257"),
        (np.array([[np.nan, 0.5], [0.5, 0.5]]), "rows that sum to nan"),
    ],
)
def test_what_is_no_table_is_refused(table: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MarkovSource(table)


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_table_has_its_exact_law(seed: int) -> None:
    """Rows so sure that some contexts are left once in many millions of steps."""
    source = MarkovSource.random(2, 8, 0.01, seed)
    moved = (source.laws[2][..., None] * source.tables[2]).sum(0)
    assert moved == pytest.approx(source.laws[2], abs=1e-14)
