"""The long-run law, against numbers by hand, and what has none that can be computed in seconds."""

from __future__ import annotations

import numpy as np
import pytest

from calmkit.text import stationary_law as module
from calmkit.text.markov_source import LARGEST_TABLE
from calmkit.text.stationary_law import DIRECT_CONTEXTS, MOST_STEPS, MOST_WORK, PANEL, stationary_law


def rows(order: int, alphabet: int, concentration: float, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).dirichlet([concentration] * alphabet, alphabet**order)
    return drawn.reshape([alphabet] * (order + 1))


@pytest.mark.parametrize("slow", [1e-1, 1e-7, 1e-100, 1e-305])
def test_two_letters_by_hand_however_slow(slow: float) -> None:
    """One change comes twice as often as the other, so its letter is the rarer: 2/3 and 1/3."""
    law = stationary_law(np.array([[1 - slow, slow], [2 * slow, 1 - 2 * slow]]))
    assert law == pytest.approx([2 / 3, 1 / 3], rel=1e-14)


def test_a_birth_and_death_chain_by_hand() -> None:
    """Up with chance u, down with d: pi(i) is in proportion to (u / d)^i, over more than two panels."""
    size, up, down = 2 * PANEL + 7, 0.2, 0.3
    table = np.diag([up] * (size - 1), 1) + np.diag([down] * (size - 1), -1)
    table += np.diag(1 - table.sum(1))
    expected = (up / down) ** np.arange(size)
    assert stationary_law(table) == pytest.approx(expected / expected.sum(), rel=1e-12)


def test_contexts_that_do_not_come_again_have_no_share() -> None:
    """0 goes to 1, 1 and 2 take turns (a period of 2)."""
    law = stationary_law(np.array([[0.0, 1, 0], [0, 0, 1], [0, 1, 0]]))
    assert law.tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize(
    "table",
    [
        np.eye(2),
        np.array([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]]),  # 0 is left, for 1 or for 2
        np.array([[1.0, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]),
    ],
)
def test_a_chain_with_more_than_one_law_is_refused(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"several parts that it never leaves.*another seed would do"):
        stationary_law(table)


def test_a_way_too_narrow_for_doubles_is_refused() -> None:
    """From 1 back to 0 leads only a way through 2, of chance 1e-200 * 1e-200."""
    table = np.array([[0.5, 0.5, 0], [0, 1, 1e-200], [1e-200, 1, 0]])
    with pytest.raises(ValueError, match="all but never leaves some contexts"):
        stationary_law(table)


def test_both_ways_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows(2, 6, 0.5, 0)
    direct = stationary_law(table)
    monkeypatch.setattr(module, "DIRECT_CONTEXTS", 1)
    iterated = stationary_law(table)
    assert not np.array_equal(iterated, direct)
    assert iterated == pytest.approx(direct, abs=1e-13)


def test_iteration_is_bounded_by_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step reads every probability once; the largest table has steps enough to settle, and few."""
    steps = []
    monkeypatch.setattr(module, "_moved", lambda laws, table: steps.append(1) or laws[:, ::-1])
    monkeypatch.setattr(module, "MOST_WORK", 2**13 * 30 + 1)
    with pytest.raises(ValueError, match=r"after 30 steps the source still remembers.*lower order would do"):
        stationary_law(rows(12, 2, 0.2, 0))
    assert len(steps) == 30
    assert 100 < MOST_WORK // LARGEST_TABLE < 1000
    assert MOST_STEPS * 2 * DIRECT_CONTEXTS < MOST_WORK  # the least that is iterated


def test_a_law_that_merely_stands_still_is_not_taken_for_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The letter of eleven places ago comes again: every law of its words that a shift leaves alone stays."""
    table = np.zeros([2] * 12)
    table[0, ..., 0] = table[1, ..., 1] = 1
    assert table[..., 0].size > DIRECT_CONTEXTS
    monkeypatch.setattr(module, "MOST_STEPS", 300)
    with pytest.raises(ValueError, match="after 300 steps the source still remembers"):
        stationary_law(table)
