"""Losses on the way: read as they were logged, thinned by means, drawn for every model that has some."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_results import made_cell, made_results

from calmkit.report.figure_loss import limits
from calmkit.report.gallery import draw
from calmkit.studies.losses import MOST, losses_of, thinned
from calmkit.training.run import Run


def test_both_losses_are_read_with_the_steps_after_which_they_stood(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(
        "epoch,lm/train/loss,lm/val/loss,step\n0,3.5,,9\n0,,2.5,19\n0,2.75,,19\n0,nan,,29\n,,,\n"
    )
    assert losses_of(Run(tmp_path)) == {"training": [[10.0, 3.5], [20.0, 2.75]], "held_out": [[20.0, 2.5]]}
    assert losses_of(Run(tmp_path / "nowhere")) == {"training": [], "held_out": []}


def test_a_run_that_logged_no_loss_has_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,lm/val/brier_lm,step\n0,3.5,9\n")
    assert losses_of(Run(tmp_path)) == {"training": [], "held_out": []}


def test_a_long_curve_is_told_by_means_over_neighbours() -> None:
    """Five points, two wanted: three and two neighbours."""
    points = [[1.0, 9.0], [2.0, 6.0], [3.0, 3.0], [4.0, 2.0], [5.0, 0.0]]
    assert thinned(points, 2) == [[2.0, 6.0], [4.5, 1.0]]
    assert thinned(points, 5) == points
    assert len(thinned([[float(i), 1.0] for i in range(4999)], MOST)) == MOST
    assert thinned([], MOST) == []


def test_a_panel_per_model_and_a_line_per_seed_and_kind() -> None:
    silent = made_cell("silent", [1.0])
    del silent["trials"][0]["losses"]
    drawn = draw("loss", made_results([made_cell("a", [3.0, 4.0]), made_cell("b", [7.0]), silent]))
    assert drawn is not None
    panels = {axes.get_title(loc="left"): axes for axes in drawn.figure.axes}
    assert list(panels) == ["b", "a"]
    assert [len(axes.lines) for axes in panels.values()] == [2, 4]
    training, held = panels["b"].lines
    assert list(training.get_xdata())[-1] == list(held.get_xdata())[-1] == 400
    assert list(held.get_ydata())[-1] == pytest.approx(5 - 0.7 - 1 + 0.1 + 0.2)
    assert "A line per seed." in drawn.caption


def test_results_without_losses_have_no_such_figure() -> None:
    cell = made_cell("a", [1.0, 2.0])
    cell["trials"][0]["losses"] = {"training": [], "held_out": []}
    del cell["trials"][1]["losses"]  # of results that were written before
    assert draw("loss", made_results([cell])) is None


def test_the_beginning_does_not_press_the_rest_together() -> None:
    """The first of 100 steps is no part of it: 2 to 3, and 8 % more on both sides."""
    assert limits([[1.0, 50.0], [50.0, 3.0], [100.0, 2.0]]) == pytest.approx((1.92, 3.08))
    assert limits([[100.0, 2.0]]) == pytest.approx((1.8, 2.2))
