"""Which runs a law is fitted to, what loss a number stands for, and what is said where it can't be fitted."""

from __future__ import annotations

import math
from typing import Any

import pytest
from made_scaling import ASKED, NUMBERS, made_grid

from calmkit.results.scaling import Fit, loss_of, loss_told, scaling


def fits(cells: list[dict[str, Any]], asked: Fit = ASKED) -> list[dict[str, Any]]:
    return scaling(cells, asked, NUMBERS, "token", replicates=2)


def test_a_score_enters_as_the_log_of_its_best_over_it_by_hand() -> None:
    """BrierLM 100 / e^2 = 13.53 is a loss of 2; nats are their own; ends and unknowns are none."""
    brier, nats = NUMBERS["brier_lm"], NUMBERS["nll_per_token"]
    assert loss_of(brier, 100 / math.e**2) == pytest.approx(2)
    assert loss_of(nats, 1.5) == 1.5
    assert [loss_of(brier, value) for value in (None, math.nan, 0.0, 100.0)] == [None] * 4
    assert [loss_of(nats, value) for value in (None, math.inf, 0.0)] == [None] * 3
    assert (loss_told(brier), loss_told(nats)) == ("log(100 / BrierLM)", "nats/token")


def test_series_of_a_head_share_its_exponents_and_have_parts_of_their_own() -> None:
    """Made with alpha 1/2 and beta 2/5 (`made_scaling`), of two K, at other floors."""
    (found,) = fits(made_grid({"1": 1.5, "2": 2.0}))
    assert (found["y"], found["group"], found["runs"], found["left_out"]) == ("brier_lm", "mixture", 18, [])
    assert found["alpha"]["value"] == pytest.approx(0.5, abs=1e-4)
    assert found["beta"]["value"] == pytest.approx(0.4, abs=1e-4)
    assert [one["label"] for one in found["series"]] == ["mixture chunk_size=1", "mixture chunk_size=2"]
    assert [one["floor"]["value"] for one in found["series"]] == pytest.approx([1.5, 2.0], abs=1e-4)
    point = found["series"][0]["points"][0]
    assert (point["size"], point["length"]) == (3e4, 2e5)  # the frozen autoencoder's 400,000 are left out
    assert point["fitted"] == pytest.approx(point["loss"], rel=1e-6)


def test_other_exponents_are_another_fit() -> None:
    cells = made_grid({"1": 1.5, "2": 2.0})
    found = fits(cells, Fit(("brier_lm",), ASKED.series, ASKED.series))
    assert [(one["group"], one["runs"], len(one["series"])) for one in found] == [
        ("mixture, 1", 9, 1), ("mixture, 2", 9, 1),
    ]  # fmt: skip


def test_a_clamped_score_is_left_out_by_name_and_an_open_run_is_no_point() -> None:
    cells = made_grid({"1": 1.5})
    cells[4]["trials"][0]["evaluation"]["brier_lm"] = 0.0
    cells[5]["trials"][0] = {"seed": 1, "state": "open"}
    (found,) = fits(cells)
    assert (found["left_out"], found["runs"]) == ([f"{cells[4]['label']}, seed 1"], 7)


def test_what_is_left_may_be_too_little() -> None:
    cells = made_grid({"1": 1.5})
    for cell in cells[:3]:
        cell["trials"][0]["evaluation"]["brier_lm"] = 0.0
    (found,) = fits(cells)
    assert found["why"].startswith("the sizes of a series are 90,000, 270,000, and 3")
    for cell in cells:
        cell["trials"][0]["evaluation"]["brier_lm"] = 0.0
    (found,) = fits(cells)
    assert (found["why"], found["runs"]) == ("no run is done whose number is within its range", 0)


def test_a_number_that_no_run_knows_says_so_and_one_that_some_know_is_fitted_there() -> None:
    asked = Fit(("nll_per_token",), ASKED.series, ASKED.exponents)
    (found,) = fits(made_grid({"1": 1.5}), asked)
    assert found["why"] == "no run that is done was measured by it"
    cells = made_grid({"1": 1.5}) + made_grid({"1": 1.5}, head="local_ar", name="nll_per_token")
    (found,) = fits(cells, asked)
    assert (found["group"], found["series"][0]["floor"]["value"]) == (
        "local_ar",
        pytest.approx(1.5, abs=1e-4),
    )
