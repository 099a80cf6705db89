"""The figure of a study's power laws: a panel per series, runs and the fitted law over the length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calmkit.report.figures import FAINT, Drawn, legend_below, make_figure, nth_colour_and_marker, panel_title
from calmkit.report.kind import words_of
from calmkit.report.measures import quantity
from calmkit.report.reading import Summary

ROW = 1.9  # inches


def fit_figure(summary: Summary) -> Drawn | None:
    """Loss over length for each size; None where nothing was fitted."""
    panels = [(fit, one) for fit in summary.get("fit") or () for one in fit.get("series", ())]
    if not panels:
        return None
    columns = min(2, len(panels))
    figure = make_figure(ROW * -(-len(panels) // columns) + 0.4, len(panels), columns)
    handles: dict[str, Any] = {}
    for axes, (fit, one) in zip(figure.axes, panels, strict=True):
        _panel(axes, fit, one, handles)
        panel_title(axes, f"{fit['loss']}: {one['label']}", columns)
    for axes in figure.axes[-columns:]:
        axes.set_xlabel(f"{words_of(summary).element}s read")
    for axes in figure.axes[::columns]:
        axes.set_ylabel("loss")
    legend_below(figure, list(handles.values()), list(handles))
    caption = (
        "Points: finished runs, each with a schedule of its own; lines: the fitted law at the same "
        "sizes. Both axes are logarithmic. Sizes are counted in each series from its smallest; "
        "parameters are in the table."
    )
    return Drawn("Loss against size and length", caption, figure)


def _panel(axes: Any, fit: Mapping[str, Any], one: Mapping[str, Any], handles: dict[str, Any]) -> None:
    lengths = [point["length"] for point in one["points"]]
    along = np.geomspace(min(lengths), max(lengths), 40)
    for number, size in enumerate(sorted({point["size"] for point in one["points"]})):
        colour, marker = nth_colour_and_marker(number)
        here = [point for point in one["points"] if point["size"] == size]
        at = [point["length"] for point in here], [point["loss"] for point in here]
        axes.plot(along, _law(fit, one, size, along), color=colour, linewidth=1)
        (points,) = axes.plot(*at, color=colour, marker=marker, markersize=4.5, linewidth=0)
        handles.setdefault(f"size {number + 1}", points)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sorted(set(lengths)), [quantity(x).strip() for x in sorted(set(lengths))])
    low, high = axes.get_ylim()
    ticks = np.geomspace(low, high, 5)[1:-1]
    axes.set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(labelsize=8.5)
    axes.grid(**FAINT)


def _law(fit: Mapping[str, Any], one: Mapping[str, Any], size: float, length: np.ndarray) -> np.ndarray:
    by_size = one["by_size"]["value"] * (size / fit["size_centre"]) ** -fit["alpha"]["value"]
    by_length = one["by_length"]["value"] * (length / fit["length_centre"]) ** -fit["beta"]["value"]
    return np.asarray(one["floor"]["value"] + by_size + by_length)
