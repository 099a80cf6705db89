"""The scatter of a relation: one series per cell, hollow where the likelihood is a bound."""

from __future__ import annotations

from typing import Any

from calmkit.studies.figures import as_svg, colour_and_marker, make_figure
from calmkit.studies.relation import EITHER, NAMES


def relation_figure(summary: dict[str, Any]) -> str:
    """Inline SVG of the points on the way of every cell."""
    result = summary["relation"]
    figure = make_figure((6.4, 4.4))
    (axes,) = figure.axes
    for one in result["series"]:
        colour, marker = colour_and_marker(summary, one["label"])
        x, y = zip(*one["points"], strict=True)
        hollow = EITHER in (result["x"], result["y"]) and not one["exact"]
        style = {"facecolors": "none" if hollow else colour, "edgecolors": colour, "marker": marker}
        axes.scatter(x, y, s=26, linewidths=1.2, label=one["label"], **style)
    axes.set_xlabel(NAMES[result["x"]])
    axes.set_ylabel(NAMES[result["y"]])
    if result["series"]:
        axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return as_svg(figure)
