"""Tables for a paper, by hand: forms of a number, what is bold, labels, and that LaTeX takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_results import made_cell, made_results, rich_results, undone

from calmkit.report.latex import as_latex, label_of, latex_escaped, latex_table
from calmkit.report.render import Grid
from calmkit.report.whole import whole_latex

GRID = Grid("Two models", ["model", "tokens/s sampled"], [["a", "1.00"], ["longer", "10.00"]], 1, ["A note."])


def rows_of(table: str) -> list[str]:
    """What stands between the rules."""
    return table.split("\\midrule\n")[1].split("\n\\bottomrule")[0].split("\n")


def test_a_grid_by_hand() -> None:
    assert as_latex(GRID, "tab:two").split("\n") == [
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        r"\caption{Two models. A note.}",
        r"\label{tab:two}\smallskip",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & tokens/s \\",
        r"model & sampled \\",
        r"\midrule",
        r"a & 1.00 \\",
        r"longer & 10.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b & 5 % #1 $x$", r"a\_b \& 5 \% \#1 \$x\$"),
        ("{a}\\b", r"\{a\}\textbackslash{}b"),
        ("<=4~^", r"\textless{}=4\textasciitilde{}\textasciicircum{}"),
        ("[1, 2]", "{[}1, 2{]}"),
        ("a|b\x00", r"a\textbar{}b?"),
    ],
)
def test_latex_acts_upon_nothing(text: str, latex: str) -> None:
    assert latex_escaped(text) == latex


def test_the_table_that_fits_a_column_by_hand() -> None:
    """b: 7 and 5, mean 6, half the width 12.7062 sqrt 2 / sqrt 2; b - a: 4 and 2. The first rank is open to
    both.
    """
    table = latex_table(made_results([made_cell("a", [3.0, 3.0]), made_cell("b", [7.0, 5.0])]))
    assert table.startswith(r"\begin{table}" + "\n")
    assert "\\label{tab:made}" in table
    assert r"model & BrierLM & difference & rank \\" in table
    assert rows_of(table) == [
        r"b & $\mathbf{6.00} \pm 12.71$ & $+3.00 \pm 12.71$ & 1--2 \\",
        r"a & $\mathbf{3.00} \pm 0.00$ & -- & 1--2 \\",
    ]
    assert r"$\pm$: 95 \% over seeds, by Student's t." in table
    assert "Bold: the highest mean, and every model of which no other is settled to be better." in table
    assert "rows of 256 tokens" in table


def test_only_what_is_level_with_the_best_is_bold() -> None:
    cells = [made_cell("a", [3.0, 3.1]), made_cell("b", [7.0, 7.1]), made_cell("c", [7.1, 6.9])]
    table = latex_table(made_results(cells))
    assert [("mathbf" in row) for row in rows_of(table)] == [True, True, False]


def test_one_seed_shows_what_the_text_leaves_open_and_settles_nothing() -> None:
    """Half the width over text is 0.3; of differences too."""
    table = latex_table(made_results([made_cell("a", [3.0]), made_cell("b", [2.0])]))
    assert rows_of(table) == [
        r"a & $\mathbf{3.00}^{+0.30}_{-0.30}$ & -- & -- \\",
        r"b & $2.00^{+0.30}_{-0.30}$ & $-1.00^{+0.30}_{-0.30}$ & -- \\",
    ]
    assert "Bold: the highest mean; no difference is settled." in table
    assert r"\pm" not in table
    assert "95 \\% over held-out text" in table


def test_less_may_be_better_and_bounds_are_bounds() -> None:
    cells = [made_cell("a", [3.0], nll_per_token=1.5), made_cell("b", [2.0], nll_bound_per_token=1.25)]
    summary = made_results(cells)
    assert rows_of(latex_table(summary, ["nats", "block_tokens", "units"])) == [
        r"a & $1.500$ & $256$ & $8{,}128$ \\",
        r"b & $\le 1.250$ & $256$ & $8{,}128$ \\",
    ]
    exact = [made_cell("a", [3.0], nll_per_token=1.5), made_cell("b", [2.0], nll_per_token=1.25)]
    summary = made_results(exact, primary="nll_per_token", text=None)
    assert rows_of(latex_table(summary))[0] == r"b & $\mathbf{1.250}$ & $-0.250$ & -- \\"


def test_what_is_not_done_stands_in_the_caption() -> None:
    cells = [
        made_cell("a", [3.0], [undone(2, "failed", "broke")]),
        made_cell("c", [], [undone(1, "open", "no")]),
    ]
    table = latex_table(made_results(cells))
    assert "a, seed 2: failed, in no mean: broke." in table
    assert rows_of(table)[1] == r"c & -- & -- & -- \\"


def test_other_text_is_warned_of_in_the_caption() -> None:
    warned = made_results([made_cell("a", [3.0])], warnings=["Not on the same text."])
    assert "Not on the same text. BrierLM: rows" in latex_table(warned)


def test_labels_are_words_that_ref_takes() -> None:
    assert label_of("My study_2!") == "tab:my-study-2"
    assert label_of("heads", "What the latents are like") == "tab:heads-what-the-latents-are-like"
    assert label_of("\u00e9") == "tab:table"


def test_every_table_of_a_study_has_a_label_of_its_own_and_a_caption() -> None:
    document = whole_latex(rich_results())
    labels = re.findall(r"\\label\{([^}]*)\}", document)
    assert labels[:3] == ["tab:made", "tab:made-scores", "tab:made-cost"]
    assert (
        len(set(labels)) == len(labels) == document.count("\\begin{tabular}") == document.count("\\caption")
    )


def test_chosen_columns_are_one_table() -> None:
    document = whole_latex(rich_results(), ["parameters", "rank"])
    assert document.count("\\begin{tabular}") == 1
    assert r"model & params & rank \\" in document
    assert "mathbf" not in document  # the measure that decides is not there
    assert "Bold" not in document


def test_long_names_are_broken_and_wide_tables_span_the_page() -> None:
    table = latex_table(made_results([made_cell("a name of more than twenty letters", [3.0])]))
    assert r"\begin{tabular}{p{0.3\linewidth}rrr}" in table
    assert rows_of(table)[0].startswith(r"\raggedright a name")
    wide = latex_table(rich_results(), ["brier_lm", "text", "difference", "difference_text", "rank"])
    assert wide.startswith("\\begin{table*}\n")
    assert wide.endswith("\\end{table*}\n")


@pytest.mark.skipif(
    shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None, reason="no pdflatex on the PATH"
)
@pytest.mark.parametrize("shape", ["twocolumn", "onecolumn"])
def test_latex_takes_it_and_the_first_table_fits_a_column(tmp_path: Path, shape: str) -> None:
    if not subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).stdout:
        pytest.skip("no booktabs")
    summary = rich_results()
    (tmp_path / "all.tex").write_text(whole_latex(summary), encoding="utf-8")
    (tmp_path / "one.tex").write_text(latex_table(summary), encoding="utf-8")
    for name in ("all", "one"):
        begin = rf"\documentclass[{shape}]{{article}}\usepackage{{booktabs}}\hbadness=10000\begin{{document}}"
        (tmp_path / "paper.tex").write_text(rf"{begin}\ref{{tab:made}} \input{{{name}}}\end{{document}}")
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout
    assert "Overfull" not in told.stdout
