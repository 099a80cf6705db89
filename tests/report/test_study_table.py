"""The tables by hand: order, columns, both intervals, ranks, and what is never averaged in."""

from __future__ import annotations

from typing import Any

import pytest
from made_results import made_blocks, made_cell, made_latents, made_results, rich_results, undone

from calmkit.report.block_table import block_grid
from calmkit.report.latent_table import distinct_latents, latent_grid
from calmkit.report.render import Grid
from calmkit.report.standing import ceiling_lines, reconstruction_lines, standing, standing_grid
from calmkit.report.table import column_of, costs_grid, main_grid, scores_grid
from calmkit.report.table_rows import cell_rows, trial_rows
from calmkit.report.whole import whole_latex, whole_markdown, whole_text
from calmkit.text.words import WORDS


def row_of(grid: Grid | None, label: str) -> list[str]:
    assert grid is not None
    return next(list(row) for row in grid.rows if row[0] == label)


def test_the_main_table_by_hand() -> None:
    """Seeds of b: mean 6, deviation sqrt 2, half width 12.7062 sqrt 2 / sqrt 2; b - a: 4 and 2."""
    grid = main_grid(made_results([made_cell("a", [3.0, 3.0]), made_cell("b", [7.0, 5.0])]))
    assert [row[0] for row in grid.rows] == ["b", "a"]
    assert dict(zip(grid.heads[:6], grid.rows[0][:6], strict=True)) == {
        "model": "b",
        "K": "2",
        "seeds": "2/2",
        "BrierLM": "6.00",
        "seeds 95 %": "[-6.71, 18.71]",
        "text 95 %": "[5.70, 6.30]",
    }
    assert grid.rows[0][6:] == ["+3.00", "[-9.71, +15.71]", "[+2.70, +3.30]", "1-2"]
    assert grid.rows[1][6:] == ["-", "-", "-", "1-2"]


def test_a_rank_stands_only_where_both_intervals_allow_it() -> None:
    apart = [made_cell("a", [3.0, 3.1]), made_cell("b", [7.0, 7.1])]
    assert [row[-1] for row in main_grid(made_results(apart)).rows] == ["1", "2"]
    assert [row[-1] for row in main_grid(made_results(apart, text=9.0)).rows] == ["1-2", "1-2"]
    alone = [made_cell("a", [3.0]), made_cell("b", [7.0])]
    assert [row[-1] for row in main_grid(made_results(alone)).rows] == ["-", "-"]


def test_what_is_not_done_is_named_and_counts_nowhere() -> None:
    cell = made_cell(
        "b", [5.0, 7.0], [undone(3, "short", "it paid 1 of 2 FLOPs"), undone(4, "failed", "broke.")]
    )
    summary = made_results(
        [
            made_cell("a", [3.0, 3.0]),
            cell,
            made_cell("c", [], [undone(1, "open", "no"), undone(2, "open", "no")]),
        ]
    )
    grid = main_grid(summary)
    assert row_of(grid, "b")[2:4] == ["2/4", "6.00"]
    assert row_of(grid, "c") == ["c", "-", "0/2", *["-"] * 7]
    assert grid.rows[-1][0] == "c"
    notes = "\n".join(grid.notes)
    assert "b, seed 3: off its budget, in no mean: it paid 1 of 2 FLOPs." in notes
    assert "b, seed 4: failed, in no mean: broke." in notes
    assert "c, seeds 1, 2: not done, in no mean: no." in notes
    heads, rows = cell_rows(summary)
    assert dict(zip(heads, rows[1], strict=True))["brier_lm"] == 6.0  # 99, the short one's, is in no column
    assert dict(zip(heads, rows[1], strict=True))["brier_1"] == pytest.approx(0.12)


def test_the_scale_of_the_evaluation_stands_under_the_table() -> None:
    summary = made_results([made_cell("a", [3.0]), made_cell("b", [4.0], chunk_size=1)])
    told = (
        "rows of 256 tokens, 126 to 127 tokens of context on average, 8,128 to 16,256 units evaluated in 96 "
        "documents"
    )
    assert main_grid(summary).notes[0] == f"BrierLM: {told}."
    unknown = made_results([made_cell("a", [3.0], documents=0.0)])
    assert "in 128 rows of unknown documents" in main_grid(unknown).notes[0]


def test_a_measure_of_which_less_is_better() -> None:
    cells = [made_cell("a", [3.0], nll_per_token=1.5), made_cell("b", [2.0], nll_per_token=1.25)]
    summary = made_results(cells, primary="nll_per_token", text=None)
    grid = main_grid(summary)
    assert [row[0] for row in grid.rows] == ["b", "a"]
    assert [*grid.rows[0][3:7]] == ["1.250", "-", "-", "-0.250"]
    assert "less is better" in grid.notes[1]
    assert scores_grid(summary).heads[1] == "BrierLM"
    assert row_of(scores_grid(summary), "a")[1] == "3.00"
    assert cell_rows(summary)[0].count("brier_lm") == 1


def test_scores_and_costs_by_hand() -> None:
    summary = made_results([made_cell("a", [3.0, 5.0], nll_per_token=1.23456)])
    assert row_of(scores_grid(summary), "a") == [
        "a", "8.00", "4.00", "2.00", "1.00", "1.235", "256", "126", "8,128", "96",
    ]  # fmt: skip
    assert dict(zip(costs_grid(summary).heads, row_of(costs_grid(summary), "a"), strict=True)) == {
        "model": "a", "params": "1.5 M", "train FLOPs": "11 T", "seconds": "55", "FLOPs/token": "500 k",
        "tokens/s": "1,000", "tokens/s sampled": "900", "draws/unit": "1.0", "calls/unit": "1.0",
    }  # fmt: skip


nats, calls = column_of(WORDS.scores[-1]).text, column_of(WORDS.costs[-1]).text


def against(found: dict[str, Any], rival: str) -> str:
    """Where the first model stands against one of the rivals of text."""
    (known,) = (one for one in WORDS.rivals if one.label == rival)
    return standing(found, found["cells"][0], known)


def test_nats_per_token_say_whether_they_are_a_bound() -> None:
    assert nats(made_cell("a", [1.0], nll_per_token=1.23456)) == "1.235"
    assert nats(made_cell("a", [1.0], nll_bound_per_token=1.5)) == "<=1.500"
    assert nats(made_cell("a", [1.0])) == "-"


def test_an_adaptive_solver_has_no_number_of_calls() -> None:
    assert calls(made_cell("a", [1.0], network_calls_per_unit=None)) == "adaptive"
    assert calls(made_cell("a", [], [undone(1, "open", "")])) == "-"


def test_csv_rows_are_unrounded() -> None:
    heads, rows = cell_rows(made_results([made_cell("a", [1 / 3, 2 / 3]), made_cell("b", [1.0, 1.0])]))
    found = dict(zip(heads, rows[0], strict=True))
    assert found["brier_lm"] == 0.5
    assert found["brier_lm_seed_high"] == pytest.approx(0.5 + 12.7062047 / 6, abs=1e-8)
    assert found["brier_lm_text_low"] == 0.2
    assert found["brier_3"] == pytest.approx(0.0025, abs=1e-15)
    assert found["train_flops"] == 11e12
    assert found["difference"] is None
    assert dict(zip(heads, rows[1], strict=True))["difference"] == 0.5


def test_a_row_per_trial_whatever_became_of_it() -> None:
    summary = made_results([made_cell("a", [3.0], [undone(2, "failed", "broke")])])
    heads, rows = trial_rows(summary)
    assert [row[:4] for row in rows] == [["a", 1, "done", ""], ["a", 2, "failed", "broke"]]
    assert dict(zip(heads, rows[0], strict=True))["brier_lm"] == 3.0
    assert dict(zip(heads, rows[1], strict=True))["brier_lm"] is None


@pytest.mark.parametrize(
    ("score", "words"),
    [(2.0, "above 1.22"), (1.3, "level 1.22"), (1.0, "level 1.22"), (0.5, "below 1.22")],
)
def test_standing_goes_by_the_text_interval_where_there_is_one_seed(score: float, words: str) -> None:
    """Half the width is 0.3."""
    assert against(made_results([made_cell("a", [score])]), "bigram") == words


def test_standing_goes_by_the_seeds_too() -> None:
    """Seeds 2 and 3 leave -3.9 to 8.9 open, whatever the text says."""
    assert against(made_results([made_cell("a", [2.0, 3.0])]), "trigram") == "level 6.02"


def test_standing_without_a_text_interval_goes_by_the_run_s_own() -> None:
    """Plus and minus 1."""
    found = made_results([made_cell("a", [5.5])], text=None)
    assert against(found, "trigram") == "level 6.02"
    assert against(found, "bigram") == "above 1.22"


def test_standing_takes_the_widest_of_the_runs_own_intervals() -> None:
    """Seeds 2.9 and 3.1 leave 1.73 to 4.27 open, the runs 2.8 to 3.0 and 0.5 to 7.0: 0.5 to 7.0 in all. The
    run that is surer of itself draws no end inwards, as it would in a mean of ends: 1.65 to 5.0.
    """
    found = made_results([made_cell("a", [2.9, 3.1])], text=None)
    for trial, (low, high) in zip(found["cells"][0]["trials"], ((2.8, 3.0), (0.5, 7.0)), strict=True):
        trial["evaluation"] |= {"brier_lm_low": low, "brier_lm_high": high}
    assert against(found, "trigram") == "level 6.02"  # the mean of 3.0 and 7.0 lies under it
    assert against(found, "bigram") == "level 1.22"


CEILING = {
    "ceiling_brier_lm": 6.25, "ceiling_brier_1": 0.5, "ceiling_brier_2": 0.125, "ceiling_brier_3": 0.02,
    "ceiling_brier_4": 0.0122, "ceiling_nll_per_token": 0.75,
}  # fmt: skip


def test_the_ceiling_is_told_where_it_is_known() -> None:
    assert ceiling_lines(made_results([made_cell("a", [3.0])])) == []
    known = made_results([made_cell("a", [3.0], **CEILING)])
    assert ceiling_lines(known) == [
        "The ceiling, what the true source scores on average: BrierLM 6.25 (Brier-1 50.00, Brier-2 12.50, "
        "Brier-3 2.00, Brier-4 1.22), 0.750 nats/token."
    ]
    grid = standing_grid(known)
    assert grid is not None
    assert grid.heads[-1] == "ceiling"
    assert row_of(grid, "a")[-1] == "below 6.25"


def test_what_the_autoencoder_gives_back() -> None:
    cells = [made_cell("a", [3.0]), made_cell("b", [3.0]), made_cell("softmax", [3.0], chunk_size=1)]
    (line,) = reconstruction_lines(made_results(cells))
    assert line.endswith("in percent: 99.71.")
    other = made_cell("c", [3.0], reconstruction_token_accuracy=0.5)
    (line,) = reconstruction_lines(made_results([*cells, other]))
    assert line.endswith("a 99.71, b 99.71, c 50.00.")


def test_an_autoencoder_that_cells_share_is_told_once() -> None:
    one, other = made_latents(), made_latents(active=3, seed=2)
    cells = [made_cell("a", [1.0], latents=one), made_cell("b", [1.0], latents=other),
             made_cell("c", [1.0], latents=one), made_cell("softmax", [1.0], chunk_size=1)]  # fmt: skip
    assert [found.cells for found in distinct_latents(made_results(cells))] == [("a", "c"), ("b",)]
    grid = latent_grid(made_results(cells))
    assert row_of(grid, "a, c")[1:6] == ["2", "16", "12", "24.5", "0.400"]
    assert row_of(grid, "b")[3] == "3"
    assert latent_grid(made_results([cells[-1]])) is None


def test_latents_of_points_have_no_width() -> None:
    found: dict[str, Any] = made_latents()
    for name in ("kl", "kl_per_dim", "posterior_std", "posterior_std_per_dim"):
        del found[name]
    grid = latent_grid(made_results([made_cell("a", [1.0], latents=found)]))
    assert row_of(grid, "a")[4:6] == ["-", "-"]


def test_the_block_table_by_hand() -> None:
    grid = block_grid(made_results([made_cell("a", [1.0])], blocks=made_blocks(["a"])))
    assert grid is not None
    assert [*grid.rows[0]] == ["a", "16", "7", "8,000", "3", "4.18", "[3.18, 5.18]", "[3.78, 4.58]"]
    assert len(grid.rows) == 5
    assert block_grid(made_results([made_cell("a", [1.0])])) is None


def test_every_document_has_every_model_and_every_mark() -> None:
    """By contract: no format loses a row, a failed trial or the scale of the evaluation."""
    summary = rich_results()
    for document, percent in ((whole_text, "%"), (whole_markdown, "%"), (whole_latex, r"\%")):
        text = document(summary).replace("\n", " ")
        for cell in summary["cells"][:4]:
            assert cell["label"] in text
        assert "diffusion, seed 3: off its budget" in text
        assert "rows of 256 tokens, 126 to 127 tokens of context on average" in text
        assert f"seeds 95 {percent}" in text
        assert "commit abc123" in text
