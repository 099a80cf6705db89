"""Pairs of runs by hand, and the relation of finished runs: Kendall, names, and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calmkit.interfaces import RelateWords
from calmkit.results.pairs import pairs_alike, pairs_text, shares
from calmkit.results.relation import EndWords, Relate, kendall, relation, relation_text

POINTS = np.array([[1.0, 9.0], [2.0, 5.0], [3.0, 6.0], [4.0, 6.0]])
"""More of y goes with less of x but for the second and third; the last two are level in y."""


def test_shares_by_hand() -> None:
    """Kinds a a b b. Within: (1, 2) alike, (3, 4) level and no pair. Across: (1, 3) and (1, 4) alike, (2, 3)
    and (2, 4) not.
    """
    kinds = np.array([0, 0, 1, 1])
    assert shares(POINTS, kinds, -1) == {"within": (1.0, 1), "across": (0.5, 4)}
    assert shares(POINTS, kinds, 1) == {"within": (0.0, 1), "across": (0.5, 4)}


def test_without_pairs_there_is_no_share() -> None:
    found = pairs_alike([POINTS[:1], POINTS[1:2]], ["a", "b"], -1, replicates=5, seed=0)
    assert found["within"] == {"share": None, "low": None, "high": None, "pairs": 0}
    assert (found["across"]["share"], found["across"]["pairs"]) == (1.0, 1)
    assert pairs_text(found, "head")[0].startswith("  Ordered alike by both: 100.0 %")
    assert pairs_alike([], [], 1, 5, 0) == {}


def test_a_number_that_favours_a_kind_orders_pairs_across_worse_than_within() -> None:
    """(i, 10 - i) and (j + 1/2, 11.25 - j), i, j from 0 to 3: within, all 12 pairs are alike. Across, a pair
    is not where j = i or j = i + 1, which are 4 + 3 of 16.
    """
    i = np.arange(4.0)
    a, b = np.stack([i, 10 - i], 1), np.stack([i + 0.5, 11.25 - i], 1)
    found = pairs_alike([a, b], ["a", "b"], -1, replicates=50, seed=0)
    assert (found["within"]["share"], found["within"]["pairs"]) == (1.0, 12)
    assert (found["across"]["share"], found["across"]["pairs"]) == (9 / 16, 16)
    assert found["across"]["low"] <= found["across"]["share"] <= found["across"]["high"]


def test_kendall_by_hand() -> None:
    """1 2 3 against 1 3 2: two pairs in one order, one in the other: (2 - 1) / 3."""
    assert kendall(np.array([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])) == pytest.approx(1 / 3)
    assert np.isnan(kendall(POINTS[:2]))
    assert np.isnan(kendall(np.array([[1.0, y] for y in range(4)])))


def ends(label: str, kind: str, *points: tuple[float, float]) -> dict[str, Any]:
    curve = [{"step": 9, "score": score, "nats": nats} for nats, score in points]
    return {"label": label, "kind": kind, "curve": curve}


def test_ends_of_runs_are_related_by_their_own_names() -> None:
    asked = Relate("nats", "score", ends=True, by="head")
    words = RelateWords({"score": "Score on the way"}, clamped=("score",))
    cells = [ends("a", "flow", (3.0, 1.0), (2.0, 2.0)), ends("b", "energy", (1.0, 4.0), (1.5, 0.0))]
    found = relation(cells, asked, words, EndWords({"nats": "nats/token", "score": "Score"}, -1))
    assert (found["points"], found["left_out"]["zero"]) == (3, 1)
    assert (found["kendall"], found["spearman"]) == (pytest.approx(-1), pytest.approx(-1))
    assert found["kendall_low"] <= found["kendall"] <= found["kendall_high"]
    assert (found["pairs"]["within"]["pairs"], found["pairs"]["across"]["pairs"]) == (1, 2)
    told = "\n".join(relation_text(found, words))
    assert told.startswith("Score against nats/token, 3 finished runs")
    assert "kendall -1.000" in told
    assert "of 2 pairs of different heads." in told
    assert "paper" not in found
