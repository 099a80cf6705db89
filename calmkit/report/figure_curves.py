"""Learning curves: the score on the way, by training FLOPs and by seconds, mean over seeds with a band."""

from __future__ import annotations

from typing import Any

from calmkit.report.figures import FAINT, Drawn, colour_and_marker, legend_below, make_figure, shown
from calmkit.report.kind import words_of
from calmkit.report.log_ticks import log_axis
from calmkit.report.marks import marked_label
from calmkit.report.measures import measure
from calmkit.report.reading import (
    Cell,
    Summary,
    done,
    evaluated,
    mean,
    ranked,
    references,
    score,
    shown_score,
    span,
)
from calmkit.results.statistics import Interval

BEFORE = {"flops": "autoencoder_train_flops", "seconds": "autoencoder_seconds"}
AXES = {"flops": "training TFLOPs, autoencoder included", "seconds": "training seconds, autoencoder included"}
FACTOR = {"flops": 1e-12, "seconds": 1.0}
REACH = 1.5  # a line this many times as high as the best curve is still drawn
ASIDE = 4  # points between the intervals at the ends of two curves
NAMES_APART = 0.08  # of the axis: nearer to each other, the names of two lines go apart
MARKED = 8  # points of a curve that carry a marker, at most


def flops_figure(summary: Summary) -> Drawn | None:
    """By training FLOPs; None where no run measured itself on the way."""
    return _figure(summary, "flops", "Learning by training FLOPs")


def seconds_figure(summary: Summary) -> Drawn | None:
    """By seconds of training; None where no run measured itself on the way."""
    return _figure(summary, "seconds", "Learning by time")


def _figure(summary: Summary, by: str, title: str) -> Drawn | None:
    if not any(curve_points(cell, by, curve_measure(summary)) for cell in summary["cells"]):
        return None
    figure = make_figure(2.7)
    legend_below(figure, *draw_curves(figure.axes[0], summary, by))
    several = any(len(done(cell)) > 1 for cell in summary["cells"])
    band = " Line: mean over seeds; band: from the lowest to the highest seed." if several else ""
    clock = " Seconds are those of this machine, with whatever else it did." if by == "seconds" else ""
    name = measure(curve_measure(summary), summary).name
    caption = (
        f"{name} on the way, {_rows_told(summary)}. A curve starts where its "
        f"autoencoder's cost ends.{band}{clock}"
    )
    return Drawn(title, caption, figure)


def draw_curves(axes: Any, summary: Summary, by: str = "flops") -> tuple[list[Any], list[str]]:
    """The curves on given axes; gives handles and labels for a legend, in the order of the table."""
    name = curve_measure(summary)
    handles, labels = [], []
    for cell in ranked(summary):
        points = curve_points(cell, by, name)
        if not points:
            continue
        colour, marker = colour_and_marker(summary, cell["label"])
        x, y, low, high = zip(*points, strict=True)
        every = max(1, -(-len(points) // MARKED))
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5, "markevery": every}
        handles += axes.plot(x, y, **style)
        labels.append(marked_label(summary, cell))
        if len(done(cell)) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        own = shown_score(summary, cell) if name == summary["primary"] else None
        _draw_end(axes, end_interval(cell, name, own), x[-1], len(labels), colour)
    words = words_of(summary)
    if name == words.primary and words.log and axes.dataLim.y0 > 0:
        _draw_lines(axes, summary, log=True)
    elif name == words.primary:
        axes.set_ylim(bottom=0)
        _draw_lines(axes, summary)
    axes.grid(axis="y", **FAINT)
    axes.set_xlabel(AXES[by])
    room = ASIDE * (len(labels) + 1) / (36 * axes.figure.get_figwidth())  # axes have half a figure or more
    axes.set_xlim(0, axes.dataLim.x1 * (1 + room) or 1)
    axes.set_ylabel(shown(measure(name, summary).name))
    return handles, labels


def end_interval(cell: Cell, name: str, found: Interval | None = None) -> tuple[float, float] | None:
    """The interval over the data of the table's number, at which a curve ends; of a lone run its own.

    Args:
        cell: Of the curve.
        name: Of the number.
        found: With its intervals; None: those of `score`.
    """
    found = found or score(cell, name)
    if found is not None and found.text_low is not None and found.text_high is not None:
        return found.text_low, found.text_high
    if len(done(cell)) != 1:  # an average of the ends of single intervals is the end of nothing
        return None
    low, high = (mean(cell, evaluated(f"{name}_{end}")) for end in ("low", "high"))
    return None if low is None or high is None else (low, high)


def _draw_end(axes: Any, found: tuple[float, float] | None, x: float, place: int, colour: str) -> None:
    """The interval at the end of a curve, beside those of the other curves."""
    from matplotlib.transforms import offset_copy

    if found is not None:
        beside = offset_copy(axes.transData, axes.figure, x=ASIDE * place, units="points")
        axes.plot([x, x], found, color=colour, marker="_", markersize=4, linewidth=1, transform=beside)
        axes.update_datalim([(x, end) for end in found])  # matplotlib leaves out what stands beside its place
        axes.autoscale_view()


def _rows_told(summary: Summary) -> str:
    """On how many rows the points of the curves were measured, and their ends."""
    trials = [trial for cell in summary["cells"] for trial in done(cell) if trial["curve"]]
    way = [trial.get("eval_rows") for trial in trials]
    words = words_of(summary)
    table = [_rows_of(trial["evaluation"], words.element) for trial in trials]
    data = words.data
    end = f"each ends with the table's number and its 95 % interval over the {data}"
    if all(w is not None and t is not None and w >= t for w, t in zip(way, table, strict=True)):
        return f"on the table's rows; {end}"
    known = [float(rows) for rows in way if rows is not None]
    rows = "fewer rows" if len(known) < len(way) else f"{span(known)} rows"
    return f"on {rows} spread evenly over the held-out {data}; {end}, on {span(table)} rows"


def _rows_of(evaluation: dict[str, Any], element: str) -> float | None:
    """How many rows were scored; where a row is an element, as many."""
    return evaluation.get("rows", evaluation.get(f"{element}s"))


def curve_measure(summary: Summary) -> str:
    """The primary measure where the points on the way know it, else the usual one of the kind of data."""
    name = summary["primary"]
    trials = [trial for cell in summary["cells"] for trial in done(cell)]
    return (
        name
        if any(name in point for trial in trials for point in trial["curve"])
        else words_of(summary).primary
    )


def curve_points(cell: Cell, by: str, name: str) -> list[tuple[float, float, float, float]]:
    """Where, mean, lowest and highest over seeds, at every step that all of a cell's trials measured."""
    by_step: dict[float, list[tuple[float, float]]] = {}
    trials = [trial for trial in done(cell) if trial["curve"]]
    for trial in trials:
        before = trial["facts"].get(BEFORE[by], 0)
        for point in trial["curve"]:
            if point.get(name) is not None:
                where = FACTOR[by] * (before + point[by])
                by_step.setdefault(point["step"], []).append((where, point[name]))
    found = []
    for _, values in sorted(by_step.items()):
        if len(values) == len(trials):
            x, y = zip(*values, strict=True)
            found.append((sum(x) / len(x), sum(y) / len(y), min(y), max(y)))
    return found


def _draw_lines(axes: Any, summary: Summary, log: bool = False) -> None:
    """The best of what is simpler and the best possible, as far as they are in sight."""
    known = references(summary)
    lines = [*[one for one in known if one.line == ":"][-1:], *[one for one in known if one.line != ":"]]
    if log:
        values = [axes.dataLim.y0, axes.dataLim.y1, *(one.value for one in lines if one.value > 0)]
        log_axis(axes.yaxis, values)
    top = axes.get_ylim()[1]
    lines = sorted((one for one in lines if one.value <= REACH * top), key=lambda one: one.value)
    if not log:
        axes.set_ylim(top=max([axes.get_ylim()[1], *(1.05 * one.value for one in lines)]))
    places = axes.transAxes.inverted().transform(
        axes.transData.transform([(0, one.value) for one in lines] or [(0, 1)])
    )
    near = len(lines) == 2 and places[1][1] - places[0][1] < NAMES_APART
    for one, side in zip(lines, ("top", "bottom") if near else ("center", "center"), strict=False):
        axes.axhline(one.value, color="black", linewidth=0.9, linestyle=one.line)
        axes.annotate(
            shown(one.label, 12), (1, one.value), (3, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va=side, fontsize=8,
        )  # fmt: skip
