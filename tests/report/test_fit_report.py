"""The power laws of a study as people see them: table, CSV, figure, page."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from made_results import made_results
from made_scaling import ASKED, NUMBERS, made_grid

from calmkit.report.fit_table import fit_csv, fit_grid
from calmkit.report.gallery import draw
from calmkit.report.render import as_text
from calmkit.report.whole import whole_text
from calmkit.report.write import write_results
from calmkit.results.scaling import scaling


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    cells = made_grid({"1": 1.5, "2": 2.0})
    cells[0]["trials"][0]["evaluation"]["brier_lm"] = 0.0
    cells += made_grid({"4": 1.0}, head="energy")[3:]
    return made_results(cells, fit=scaling(cells, ASKED, NUMBERS, "token", replicates=3))


def test_the_table_has_a_row_per_series_and_says_over_what_range(summary: dict[str, Any]) -> None:
    grid = fit_grid(summary)
    assert grid is not None
    assert [row[:3] for row in grid.rows] == [
        ["log(100 / BrierLM)", "mixture chunk_size=1", "8"],
        ["log(100 / BrierLM)", "mixture chunk_size=2", "9"],
        ["log(100 / BrierLM)", "energy", "6"],
    ]
    assert grid.rows[0][3:6] == ["0.500 [0.500, 0.500]", "0.400 [0.400, 0.400]", "1.500 [1.500, 1.500]"]
    assert grid.rows[2][3:] == ["-"] * 6
    told = " ".join(as_text(grid).split())
    assert "N from 30,000 to 270,000 parameters, D from 200,000 to 1,800,000 tokens. What" in told
    assert "95 % by percentiles of 3 bootstrap replicates over runs" in told
    assert "Every point is a finished run" in told
    assert (
        "energy: not fitted: the sizes of a series are 90,000, 270,000, and 3 different ones are needed."
        in told
    )
    assert "mixture K=1 30000 200000, seed 1. What is left is the better ones." in told


def test_numbers_at_an_edge_are_said_to_be_open(summary: dict[str, Any]) -> None:
    told = "in 40 % of the replicates an exponent or a part ends at an edge"
    sure = fit_grid(summary)
    assert sure is not None
    assert told not in " ".join(sure.notes)
    open_one = fit_grid(summary | {"fit": [summary["fit"][0] | {"at_edge": 0.4}]})
    assert open_one is not None
    assert told in " ".join(open_one.notes)


def test_the_csv_has_every_number_and_every_end(summary: dict[str, Any]) -> None:
    first, second = csv.DictReader(fit_csv(summary).splitlines())
    assert (first["y"], first["group"], first["series"]) == ("brier_lm", "mixture", "mixture chunk_size=1")
    assert float(second["floor"]) == pytest.approx(2.0, abs=1e-3)
    for name in ("alpha", "beta", "floor", "by_size", "by_length"):
        assert float(second[f"{name}_low"]) <= float(second[f"{name}_high"])


def test_page_text_and_files_hold_the_law_and_other_studies_none(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    few = made_results(summary["cells"][:1], fit=summary["fit"])  # a page of all cells takes seconds
    write_results(few, tmp_path, lambda line: None)
    title = "Loss against size and length"
    assert title in (tmp_path / "table.txt").read_text()
    assert (tmp_path / "report.html").read_text().count(title) >= 2  # the figure and the table
    assert "chunk_size=2" in (tmp_path / "fit.svg").read_text()
    assert (tmp_path / "fit.csv").read_text() == fit_csv(summary)
    plain = made_results(summary["cells"][:1])
    assert draw("fit", plain) is None
    assert title not in whole_text(plain)
