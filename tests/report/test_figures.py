"""What figures are made of, by hand, and that all of them are SVG that stands any name."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import pytest
from made_results import made_cell, made_latents, made_results, made_trial, rich_results
from made_scaling import ASKED, NUMBERS, made_grid
from matplotlib.transforms import Bbox

from calmkit.report.figure_cost import pareto_front
from calmkit.report.figure_curves import curve_points, end_interval
from calmkit.report.figure_labels import label_points
from calmkit.report.figure_latents import far_apart, visible
from calmkit.report.figures import (
    PALETTE,
    as_svg,
    make_figure,
    nth_colour_and_marker,
    style,
)
from calmkit.report.gallery import FIGURES, LATENT_FIGURES, draw, picture
from calmkit.report.sampling_figure import geometric
from calmkit.report.standing import standing_grid
from calmkit.report.table import costs_grid
from calmkit.results.scaling import scaling

KINDS = [*FIGURES, *LATENT_FIGURES]


def texts(svg: str) -> list[str]:
    """Of all text elements, in order."""
    return [
        "".join(e.itertext()).strip() for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")
    ]


def svg_of(kind: str, summary: dict) -> str:
    drawn = draw(kind, summary)
    assert drawn is not None
    svg = as_svg(drawn.figure, kind, drawn.caption)
    return svg.replace(
        "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ', 1
    )


def test_the_pareto_front_by_hand() -> None:
    """Cost, quality: c costs more than a and is worse; d is as good as b for more; e is the cheapest."""
    points = [(2.0, 5.0), (3.0, 9.0), (4.0, 4.0), (5.0, 9.0), (1.0, 1.0)]
    assert pareto_front(points) == [4, 0, 1]
    assert pareto_front([(1.0, 1.0), (1.0, 1.0)]) == [0, 1]  # equals beat no equal


def test_no_point_of_a_front_is_beaten_and_all_others_are() -> None:
    points = [(float(i * 7 % 11), float(i * 5 % 13)) for i in range(20)]
    front = pareto_front(points)
    for number, (cost, quality) in enumerate(points):
        beaten = any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)
        assert beaten == (number not in front)


def test_a_curve_is_the_mean_over_seeds_from_where_its_autoencoder_ends() -> None:
    cell = made_cell("a", [4.0, 6.0])
    points = curve_points(cell, "flops", "brier_lm")
    assert len(points) == 9
    assert points[0] == (3.0, 0.0, 0.0, 0.0)  # TFLOPs of the autoencoder
    assert points[-1] == pytest.approx((11.0, 5.0, 4.0, 6.0))
    *_, (seconds, _, _, _) = curve_points(cell, "seconds", "brier_lm")
    assert seconds == pytest.approx(30 + 8e12 / 1.5e11 + 1.5)  # the mean over seeds 1 and 2


def test_a_step_that_one_seed_did_not_measure_is_left_out() -> None:
    cell = made_cell("a", [4.0, 6.0])
    del cell["trials"][1]["curve"][3]
    assert len(curve_points(cell, "flops", "brier_lm")) == 8


@pytest.mark.parametrize("text", [0.3, 4.0, None])
def test_a_curve_ends_at_the_number_of_the_table_with_its_interval(text: float | None) -> None:
    """Whatever was measured on fewer rows on the way: seven on 16 rows, four in the table."""
    summary = made_results([made_cell("a", [4.0]), made_cell("b", [5.0])], text=text)
    for kind in ("curves", "curves_by_time"):
        drawn = draw(kind, summary)
        assert drawn is not None
        lines = [line for line in drawn.figure.axes[0].lines if len(line.get_xdata()) > 1]
        curves = [line for line in lines if len(line.get_xdata()) == 9]
        ends = [line for line in lines if line.get_marker() == "_"]
        half = text or 1.0  # without a text interval of the study that of the run itself
        for curve, end, score in zip(curves, ends, (5.0, 4.0), strict=True):
            assert curve.get_ydata()[-1] == score
            assert list(end.get_ydata()) == pytest.approx([score - half, score + half])
            assert list(end.get_xdata()) == [curve.get_xdata()[-1]] * 2
            assert max(end.get_ydata()) <= drawn.figure.axes[0].get_ylim()[1]
        told = (
            "on 16 rows spread evenly over the held-out text; each ends with the table's number and its 95 %"
        )
        assert told in drawn.caption
        assert "on 128 rows" in drawn.caption


def test_no_interval_at_the_end_of_a_curve_is_an_average_of_those_of_seeds() -> None:
    cells = [made_cell("a", [4.0]), made_cell("b", [4.0, 6.0])]
    lone, two = made_results(cells, text=None)["cells"]
    assert end_interval(lone, "brier_lm") == (3.0, 5.0)
    assert end_interval(two, "brier_lm") is None


PROTOCOLS = [{"name": f"rows{n}", "told": "", "cells": [label]} for n, label in ((8, "a"), (128, "b"))]


def test_models_that_were_not_measured_alike_are_marked_in_figures_and_grids() -> None:
    """And none is said to be better than another: no Pareto front."""
    summary = made_results([made_cell("a", [4.0]), made_cell("b", [5.0], speed=2.0)], protocols=PROTOCOLS)
    for kind in ("cost", "speed", "curves"):
        assert {"a [a]", "b [b]"} <= set(texts(svg_of(kind, summary)))
    for kind in ("cost", "speed"):
        drawn = draw(kind, summary)
        assert drawn is not None
        assert drawn.caption.startswith("No Pareto front: the models were not all measured alike")
        assert not [line for line in drawn.figure.axes[0].lines if line.get_linestyle() == "--"]
    for grid in (costs_grid(summary), standing_grid(summary)):
        assert grid is not None
        assert [row[0] for row in grid.rows] == ["a [a]", "b [b]"]


def test_a_curve_on_the_rows_of_the_table_says_so() -> None:
    summary = made_results([made_cell("a", [4.0], rows=16.0)])
    drawn = draw("curves", summary)
    assert drawn is not None
    assert "on the way, on the table's rows; each ends" in drawn.caption


def test_geometric_mean_in_percent() -> None:
    assert geometric([0.2, 0.05]) == pytest.approx(10.0)
    assert geometric([0.5, 0.0]) == 0.0


@pytest.mark.parametrize(("collision", "scale"), [(0.5, "linear"), (9.0, "log")])
def test_one_that_always_says_the_same_does_not_press_the_others_together(
    collision: float, scale: str
) -> None:
    """In percent 40 / 24 ** 0.25 = 18 for the others; here 11 times as much, or a tenth more."""
    same = {f"collision_{n}": collision for n in (1, 2, 3, 4)}
    drawn = draw("collision", made_results([made_cell("a", [3.0]), made_cell("b", [1.0], **same)]))
    assert drawn is not None
    assert drawn.figure.axes[0].get_xscale() == drawn.figure.axes[0].get_yscale() == scale


def test_points_far_apart_by_hand() -> None:
    """The centre is (2, 0): first the farthest from it, then the farthest from that, then the middle."""
    assert far_apart([(0.0, 0.0), (1.0, 0.0), (5.0, 0.0)], 3) == [2, 0, 1]
    assert far_apart([(1.0, 1.0)] * 4, 3) == [0]
    assert far_apart([], 3) == []


def test_hidden_characters_are_shown() -> None:
    assert visible("a b\n\t\x00") == "a\u2423b\u23ce\u21e5\ufffd"


def test_every_cell_has_a_look_of_its_own() -> None:
    looks = [nth_colour_and_marker(index) for index in range(64)]
    assert len(set(looks)) == 64
    assert len({colour for colour, _ in looks[:8]}) == len(PALETTE)


def test_a_label_avoids_points_and_other_labels() -> None:
    with style():
        figure = make_figure(3.0)
        (axes,) = figure.axes
        axes.set_xlim(0, 10)
        axes.set_ylim(0, 10)
        points = [(5.0, 5.0), (5.4, 5.0), (9.9, 9.0)]
        label_points(axes, points, ["one", "two", "at the edge"])
        boxes = [text.get_window_extent() for text in axes.texts]
        room = axes.get_window_extent()
    assert [text.get_text() for text in axes.texts] == ["one", "two", "at the edge"]
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])
    assert boxes[2].x1 <= room.x1 + 6


@pytest.mark.parametrize("place", [(5.0, 5.0), (9.8, 9.8), (0.2, 0.2), (9.8, 0.2)])
def test_the_names_of_points_that_coincide_are_apart_and_inside(place: tuple[float, float]) -> None:
    """In the middle and in corners; those that stand far from their point have a line to it."""
    names = ["energy", "flow", "diffusion", "mixture", "a longer name\nin two lines", "regression"]
    with style():
        figure = make_figure(3.3)
        (axes,) = figure.axes
        axes.set_xlim(0, 10)
        axes.set_ylim(0, 10)
        label_points(axes, [place] * len(names), names)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        room = axes.get_window_extent()
    assert [text.get_text() for text in axes.texts] == names
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])
    for box in boxes:
        assert room.x0 - 0.5 <= box.x0
        assert box.x1 <= room.x1 + 6.5
        assert room.y0 - 0.5 <= box.y0
        assert box.y1 <= room.y1 + 0.5
    far = sum(max(map(abs, text.xyann)) > 10 for text in axes.texts)
    assert far == len(axes.lines) > 0


def test_a_label_is_not_read_as_that_of_the_point_below() -> None:
    """flow stands right above diffusion, at the same cost."""
    known = [("energy", 2.25, 1.04e6), ("flow", 3.40, 3.47e6), ("diffusion", 3.06, 3.47e6),
             ("mixture", 8.02, 1.1e6), ("softmax", 6.85, 2.2e6)]  # fmt: skip
    drawn = draw("cost", made_results([made_cell(n, [y, y], token_flops=x) for n, y, x in known], text=1.5))
    assert drawn is not None
    with style():
        drawn.figure.draw_without_rendering()
        (axes,) = drawn.figure.axes
        boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
        places = {name: axes.transData.transform((x, y)) for name, y, x in known}

    def gap(box: Bbox, place: Sequence[float]) -> float:
        nearest = (min(max(place[0], box.x0), box.x1), min(max(place[1], box.y0), box.y1))
        return math.dist(nearest, place)

    for name, box in boxes.items():
        assert gap(box, places[name]) <= min(gap(box, place) for place in places.values()) + 1, name


@pytest.mark.parametrize("kind", ["cost", "speed", "collision"])
def test_models_that_are_equal_in_all_have_readable_names(kind: str) -> None:
    names = [
        "energy",
        "flow lr=0.001",
        "mixture",
        "softmax",
        "diffusion of a long name",
        "regression",
        "point",
    ]
    summary = made_results([made_cell(name, [5.0, 5.0]) for name in names])
    drawn = draw(kind, summary)
    assert drawn is not None
    with style():
        drawn.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in drawn.figure.axes[0].texts]
        room = drawn.figure.axes[0].get_window_extent()
    assert len(boxes) == len(names)
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])
    assert all(box.y1 <= room.y1 + 0.5 and room.x0 - 0.5 <= box.x0 for box in boxes)


def test_the_names_of_lines_that_coincide_go_apart() -> None:
    best = {f"ceiling_brier_{n}": 0.1 for n in (1, 2, 3, 4)} | {"ceiling_nll_per_token": 0.5}
    drawn = draw("curves", made_results([made_cell("a", [5.0], ceiling_brier_lm=6.1, **best)]))
    assert drawn is not None
    with style():
        drawn.figure.draw_without_rendering()
        one, two = (text.get_window_extent() for text in drawn.figure.axes[0].texts)
    assert not one.overlaps(two)


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_stands_every_name(kind: str) -> None:
    """By contract: well-formed, told in words, all ids under the figure's name, no fixed size."""
    summary = rich_results()
    summary["relation"] = {
        "x": "step", "y": "brier_lm",
        "series": [{"label": "energy", "exact": True, "points": [[1.0, 2.0], [2.0, 3.0]]}],
    }  # fmt: skip
    summary["fit"] = scaling(made_grid({"1": 1.5}), ASKED, NUMBERS, "token", replicates=3)
    svg = svg_of(kind, summary)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert root.get("width") is None
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids
    assert all(name.startswith(f"{kind}-") for name in ids)
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]*)", svg)) <= set(ids)
    assert "<style" not in svg
    assert "#000000" not in svg  # the page's ink


@pytest.mark.parametrize("kind", ["scores", "curves"])
def test_a_name_is_drawn_as_it_is(kind: str) -> None:
    names = ["_hidden", "$x$ & y_1", "<b>", "a\x00b"]
    summary = made_results([made_cell(name, [1.0 + i, 1.2 + i]) for i, name in enumerate(names)])
    found = texts(svg_of(kind, summary))
    assert {"_hidden", "$x$ & y_1", "<b>", "a\ufffdb"} <= set(found)


def test_scores_name_their_references_and_values() -> None:
    found = texts(svg_of("scores", made_results([made_cell("a", [4.0, 5.0]), made_cell("b", [7.0, 7.2])])))
    assert {"unigram", "bigram", "trigram", "4.50", "7.10"} <= set(found)
    assert "ceiling" not in found


def test_the_ceiling_is_drawn_where_it_is_near() -> None:
    best = {f"ceiling_brier_{n}": 0.1 for n in (1, 2, 3, 4)} | {"ceiling_nll_per_token": 0.5}
    near = made_results([made_cell("a", [8.0], ceiling_brier_lm=10.0, **best)])
    assert "ceiling" in texts(svg_of("scores", near))
    assert "ceiling" in texts(svg_of("curves", near))
    far = made_results([made_cell("a", [8.0], ceiling_brier_lm=90.0, **best)])
    assert "ceiling" not in texts(svg_of("scores", far))  # it would press all scores against zero
    drawn = draw("scores", far)
    assert drawn is not None
    assert "ceiling 90.00" in drawn.caption


def test_figures_that_results_hold_nothing_for() -> None:
    summary = made_results([made_cell("a", [1.0, 2.0])])
    for kind in ("cost", "speed", "blocks", "relation", *LATENT_FIGURES):
        assert draw(kind, summary) is None
    trial = made_trial("a", 1, 1.0) | {"curve": []}
    silent = made_results([{"label": "a", "settings": {}, "trials": [trial]}])
    assert draw("curves", silent) is None


def test_latents_of_points_have_scales_and_no_kl() -> None:
    found = made_latents()
    del found["kl_per_dim"], found["posterior_std_per_dim"]
    summary = made_results([made_cell("a", [1.0], latents=found)])
    assert draw("latent_scales", summary) is not None
    assert draw("latent_kl", summary) is None


def test_the_picture_is_one_svg_with_both_panels() -> None:
    svg = picture(rich_results())
    assert {"softmax", "15.97", "BrierLM"} <= set(texts(svg))
    assert "rows of 256 tokens, 126 to 127 tokens of context" in " ".join(texts(svg))
    ids = {element.get("id") for element in ElementTree.fromstring(svg[svg.index("<svg") :]).iter()}
    assert {"axes_1", "axes_2"} <= ids


def test_the_same_results_give_the_same_picture() -> None:
    assert picture(rich_results()) == picture(rich_results())
