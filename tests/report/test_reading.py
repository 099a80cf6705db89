"""What tables and figures ask of results: the order of cells, means."""

from __future__ import annotations

import pytest
from made_results import made_cell, made_results

from calmkit.report.reading import evaluated, mean, ranked, score

NAN = float("nan")


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_a_mean_that_is_not_finite_is_as_good_as_none(bad: float) -> None:
    cells = [made_cell("middle", [2.0]), made_cell("bad", [bad]), made_cell("best", [3.0])]
    summary = made_results([*cells, made_cell("last", [1.0])])
    assert [cell["label"] for cell in ranked(summary)] == ["best", "middle", "last", "bad"]
    assert score(summary["cells"][1], "brier_lm") is None


def test_a_seed_whose_number_is_not_finite_counts_in_no_mean() -> None:
    assert mean(made_cell("a", [1.0, NAN, 3.0]), evaluated("brier_lm")) == 2.0
    assert mean(made_cell("a", [NAN]), evaluated("brier_lm")) is None
