"""Ticks of logarithmic axes: by hand, and enough of them on every axis, however narrow or wide."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from made_results import made_blocks, made_cell, made_results

from calmkit.report.figures import make_figure, style
from calmkit.report.gallery import draw
from calmkit.report.log_ticks import APART, MOST, apart, log_axis, log_ticks, tick_texts


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (80.0, 1.3e5, ["100", "1 k", "10 k", "100 k"]),
        (2.5e5, 4e6, ["300 k", "1 M", "3 M"]),
        (800.0, 3000.0, ["1 k", "1.5 k", "2 k", "3 k"]),
        (1000.0, 1300.0, ["1 k", "1.1 k", "1.2 k", "1.3 k"]),
    ],
)
def test_ticks_by_hand(low: float, high: float, texts: list[str]) -> None:
    assert tick_texts(log_ticks(low, high)) == texts


@pytest.mark.parametrize("middle", [3.7e-4, 1.0, 999.0, 5.2e5, 8.8e12])
@pytest.mark.parametrize("wide", [1.001, 1.02, 1.25, 1.6, 2.0, 3.3, 7.0, 15.0, 90.0, 1e3, 1e5, 1e9])
def test_every_axis_has_at_least_two_labelled_ticks(middle: float, wide: float) -> None:

    low, high = middle / wide**0.5, middle * wide**0.5
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= MOST
    assert all(low <= tick <= high for tick in ticks)
    assert all(math.log(b / a) >= APART * math.log(high / low) for a, b in pairwise(ticks))
    assert len(set(tick_texts(ticks))) == len(ticks)


def test_numbers_that_three_digits_do_not_tell_apart_have_more() -> None:
    assert tick_texts([1000.0, 1001.0, 1002.0]) == ["1000", "1001", "1002"]


def test_ticks_whose_labels_would_meet_are_left_out() -> None:
    assert apart([16.0, 17.0, 32.0, 64.0], 16.0, 64.0) == [16.0, 32.0, 64.0]


@pytest.mark.parametrize("values", [[1000.0], [1000.0, 1000.5], [3.0, 7e8]])
def test_an_axis_around_any_values(values: list[float]) -> None:
    with style():
        (axes,) = make_figure(3.0).axes
        log_axis(axes.xaxis, values)
        log_axis(axes.yaxis, values)
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        told = [label.get_text() for label in axis.get_ticklabels()]
        assert len(told) >= 2
        assert all(told)
        assert low < min(values) <= max(values) < high


@pytest.mark.parametrize("kind", ["cost", "speed"])
@pytest.mark.parametrize("apart", [1.0001, 1.1, 40.0])
def test_quality_against_cost_has_them(kind: str, apart: float) -> None:
    cells = [made_cell("a", [5.0]), made_cell("b", [6.0], speed=1000 * apart, token_flops=5e5 * apart)]
    drawn = draw(kind, made_results(cells))
    assert drawn is not None
    (axes,) = drawn.figure.axes
    low, high = axes.get_xlim()
    assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 2


def test_one_block_length_is_no_logarithmic_axis() -> None:
    drawn = draw("blocks", made_results([made_cell("a", [1.0])], blocks=made_blocks(["a"])[:1]))
    assert drawn is not None
    assert drawn.figure.axes[0].get_xscale() == "linear"
    assert [label.get_text() for label in drawn.figure.axes[0].get_xticklabels()] == ["16"]
