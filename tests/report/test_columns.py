"""Columns by name: what they hold, in every format, and what is said of a name that there is not."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_results import made_cell, made_results
from made_runs import made_run

from calmkit.cli.main import cli
from calmkit.report.columns import chosen, chosen_rows, columns_grid, known_columns
from calmkit.report.entries import Entry, leaders
from calmkit.report.table_rows import cell_rows
from calmkit.studies.comparison import Comparison
from calmkit.training.errors import RunFailed

TWO = made_results([made_cell("a", [3.0, 3.0]), made_cell("b", [7.0, 5.0], speed=2000.0)])


def test_columns_by_hand() -> None:
    """b: mean 6, half the width 12.71; over text 0.3."""
    grid = columns_grid(TWO, ["seeds", "brier_lm", "text", "difference", "difference_text", "rank"])
    assert grid.heads == [
        "model",
        "seeds",
        "BrierLM",
        "BrierLM, text",
        "difference",
        "difference, text",
        "rank",
    ]
    assert grid.rows[0] == [
        "b", "2/2", "6.00 +- 12.71", "6.00 (+0.30 -0.30)", "+3.00 +- 12.71", "+3.00 (+0.30 -0.30)", "1-2",
    ]  # fmt: skip
    assert grid.rows[1][4:] == ["-", "-", "1-2"]
    cost = columns_grid(TWO, ["chunk_size", "parameters", "plain_tokens_per_second", "trigram_brier_lm"])
    assert cost.rows[0] == ["b", "2", "1.5 M", "2,000", "6.020"]
    assert "+-: 95 % over seeds, by Student's t." in grid.notes
    assert not any("95 %" in note for note in cost.notes)


def test_ends_need_not_be_equally_far() -> None:
    assert Entry("6.20", "text", "0.40", "0.30").text == "6.20 (+0.30 -0.40)"
    assert Entry("6.20", "seeds", "0.40", "0.40").text == "6.20 +- 0.40"
    assert Entry("-").text == "-"


def test_the_same_names_choose_unrounded_numbers() -> None:
    heads, rows = chosen_rows(TWO, ["brier_lm", "rank", "train_flops", "trigram_brier_lm"])
    ends = [f"brier_lm_{end}" for end in ("seed_low", "seed_high", "text_low", "text_high")]
    assert heads == ["cell", "brier_lm", *ends, "rank_best", "rank_worst", "train_flops", "trigram_brier_lm"]
    assert rows[1][1] == 6.0
    assert rows[1][2] == pytest.approx(6 - 12.7062047, abs=1e-6)
    assert rows[1][6:] == [1, 2, 11e12, 6.02]


def test_chosen_numbers_of_several_protocols_say_which() -> None:
    protocols = [{"name": f"rows{n}", "told": "", "cells": [label]} for n, label in ((8, "a"), (128, "b"))]
    heads, rows = chosen_rows(TWO | {"protocols": protocols}, ["rank"])
    assert heads == ["cell", "rank_best", "rank_worst", "protocol"]
    assert [row[-1] for row in rows] == ["rows8", "rows128"]
    assert "protocol" not in chosen_rows(TWO | {"protocols": protocols[:1]}, ["rank"])[0]


def test_every_column_of_the_csv_can_be_chosen_by_some_name() -> None:
    """By contract: a name for each head, and each name has an entry for each model."""
    known = known_columns(TWO)
    by_itself = {"protocol"}  # stands there where there are several
    assert set(cell_rows(TWO)[0]) - by_itself <= set(chosen_rows(TWO, list(known))[0])
    for column in known.values():
        assert all(column.entry(cell).text for cell in TWO["cells"]), column.name


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(
        RunFailed, match=r"No column is called 'brir_lm'; did you mean 'brier_lm'\? There are chunk"
    ):
        chosen(TWO, ["rank", "brir_lm"])
    with pytest.raises(
        RunFailed, match=r"No column is called 'qqq'; there are chunk_size, seeds, brier_lm, text,"
    ):
        chosen(TWO, ["qqq"])
    with pytest.raises(RunFailed, match="No column is named; there are chunk_size"):
        chosen(TWO, [])


def test_a_name_twice_is_one_column() -> None:
    assert [one.name for one in chosen(TWO, ["rank", "text", "rank"])] == ["rank", "text"]


def test_leaders_are_the_best_mean_and_whom_nobody_is_settled_to_beat() -> None:
    assert leaders(TWO) == {"a", "b"}
    settled = made_results([made_cell("a", [3.0, 3.0]), made_cell("b", [7.0, 7.1])])
    assert leaders(settled) == {"b"}
    alone = made_results([made_cell("a", [3.0]), made_cell("b", [7.0])])
    assert leaders(alone) == {"b"}


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return [
        str(made_run(tmp_path / head, score, head=head)) for head, score in (("energy", 3.0), ("flow", 7.0))
    ]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("text", "flow 7.00 (+0.00 -0.00) 1.5 M"),
        ("md", "| flow | 7.00 (+0.00 -0.00) | 1.5 M |"),
        ("latex", r"flow & $\mathbf{7.00}^{+0.00}_{-0.00}$ & 1.5 M \\"),
    ],
)
def test_the_verb_takes_columns_for_every_format(runs: list[str], form: str, line: str) -> None:
    words = ["compare", *runs, "--format", form, "--columns", "brier_lm, parameters"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert line in " ".join(result.stdout.split())
    assert "Provenance" not in result.stdout
    assert Comparison(TWO).text(["rank"]).split("\n")[1:4] == ["model  rank", "b       1-2", "a       1-2"]


def test_the_verb_takes_columns_for_csv(runs: list[str]) -> None:
    result = CliRunner().invoke(cli, ["compare", *runs, "--format", "csv", "--columns", "parameters"])
    assert list(csv.reader(io.StringIO(result.stdout))) == [
        ["cell", "parameters"], ["energy", "1500000.0"], ["flow", "1500000.0"],
    ]  # fmt: skip


def test_the_verb_refuses_columns_that_there_are_not(runs: list[str]) -> None:
    result = CliRunner().invoke(cli, ["compare", *runs, "--columns", "rnk"])
    assert result.exit_code != 0
    assert "did you mean 'rank'?" in result.output
    result = CliRunner().invoke(cli, ["compare", *runs, "--json", "--columns", "rank"])
    assert result.exit_code == 2
    assert "--json prints everything" in result.output
