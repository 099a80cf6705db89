"""Quality against the cost of inference, and the models of which none other is both better and cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from calmkit.report.figure_labels import label_points
from calmkit.report.figures import (
    FAINT,
    Drawn,
    colour_and_marker,
    make_figure,
    shown,
)
from calmkit.report.kind import words_of
from calmkit.report.log_ticks import log_axis
from calmkit.report.marks import marked_label
from calmkit.report.measures import measure
from calmkit.report.reading import Cell, Pick, Summary, evaluated, fact, mean, ranked, scale, shown_score
from calmkit.results.statistics import Interval

ROOM = 0.2  # of the axis, above what is shown: for names


def flops_cost_figure(summary: Summary) -> Drawn | None:
    """Against FLOPs in use; None below two models."""
    words = words_of(summary)
    title = f"FLOPs per {words.element}"
    return _figure(summary, fact(words.flops), title, words.flops_told or title, "fewer FLOPs", True)


def speed_figure(summary: Summary) -> Drawn | None:
    """Against speed; None below two models, or where the kind of data knows none."""
    words = words_of(summary)
    cheaper = f"more {words.element}s a second"
    return _figure(summary, evaluated(words.speed), "speed", words.speed_told, cheaper, False)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats: as cheap and as good, and better in one of the two.

    Args:
        points: Cost (less is better) and quality (more is better) of each.

    Returns:
        Their numbers, the cheapest first.
    """
    kept = []
    for number, (cost, quality) in enumerate(points):
        beaten = any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)
        if not beaten:
            kept.append(number)
    return sorted(kept, key=lambda number: points[number])


def _figure(
    summary: Summary, pick: Pick, title: str, axis: str, cheaper: str, less_is_cheaper: bool
) -> Drawn | None:
    words = words_of(summary)
    found: list[tuple[Cell, float, Interval]] = []
    for cell in ranked(summary):
        cost, own = mean(cell, pick), shown_score(summary, cell)
        if cost and own is not None:
            found.append((cell, cost, own))
    if len(found) < 2 or summary["primary"] in {one.name for one in words.costs}:
        return None
    shown_as, sign = measure(summary["primary"], summary), 1 if summary["higher_is_better"] else -1
    costs = [(cost if less_is_cheaper else -cost, sign * own.mean) for _, cost, own in found]
    front = [] if len(summary.get("protocols", [])) > 1 else pareto_front(costs)
    figure = make_figure(3.3)
    (axes,) = figure.axes
    log_axis(axes.xaxis, [cost for _, cost, _ in found])
    for cell, cost, own in found:
        colour, marker = colour_and_marker(summary, cell["label"])
        axes.plot(
            cost, shown_as.factor * own.mean, marker, color=colour, markersize=7, zorder=3, clip_on=False
        )
        if own.text_low is not None and own.text_high is not None:
            ends = [shown_as.factor * own.text_low, shown_as.factor * own.text_high]
            axes.plot([cost, cost], ends, color=colour, linewidth=1.2, zorder=2)
    corners = _draw_front(axes, [(found[i][1], shown_as.factor * found[i][2].mean) for i in front])
    axes.margins(y=ROOM)
    if summary["primary"] == words.primary and all(own.mean >= 0 for _, _, own in found):
        axes.set_ylim(0, (1 + ROOM) * axes.dataLim.y1 or 1.0)
    axes.grid(**FAINT)
    axes.set_xlabel(axis)
    axes.set_ylabel(shown_as.name)
    points = [(cost, shown_as.factor * own.mean) for _, cost, own in found]
    labels = [shown(marked_label(summary, cell)) for cell, _, _ in found]
    label_points(axes, points, labels, [i in front for i in range(len(found))], around=corners)
    told = _front_told([found[i][0]["label"] for i in front], cheaper)
    caption = f"{told} Strokes: 95 % over {words.data}. {shown_as.name} on {scale(summary)}."
    return Drawn(f"Quality against {title}", caption, figure)


def _draw_front(axes: Any, line: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The steps from point to point, if there are any; gives the line that labels keep clear of."""
    if not line:
        return []
    axes.step(*zip(*line, strict=True), where="post", color="black", linewidth=0.9, linestyle="--", zorder=1)
    return [[corner for (x, y), (later, _) in pairwise([*line, line[-1]]) for corner in ((x, y), (later, y))]]


def _front_told(labels: Sequence[str], cheaper: str) -> str:
    if not labels:
        return "No Pareto front: the models were not all measured alike, as the marks behind their names say."
    return (
        "Dashed, bold: the Pareto front by means. No other model is both better and takes "
        f"{cheaper} than {', '.join(labels)}."
    )
