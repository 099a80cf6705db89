"""The scatter of a relation: one series per cell, hollow where the likelihood is a bound."""

from __future__ import annotations

from calmkit.report.figures import FAINT, Drawn, colour_and_marker, legend_below, make_figure, shown
from calmkit.report.kind import words_of
from calmkit.report.reading import Summary
from calmkit.results.relation import names_of


def relation_figure(summary: Summary) -> Drawn | None:
    """The points of every cell; None where the study relates nothing."""
    result = summary.get("relation")
    if not result or not result["series"]:
        return None
    words = words_of(summary).relate
    names, either = result.get("names") or names_of(words), words.either if words else ""
    figure = make_figure(3.4)
    (axes,) = figure.axes
    handles = []
    for one in result["series"]:
        colour, marker = colour_and_marker(summary, one["label"])
        x, y = zip(*one["points"], strict=True)
        hollow = either in (result["x"], result["y"]) and not one["exact"]
        style = {"facecolors": "none" if hollow else colour, "edgecolors": colour, "marker": marker}
        handles.append(axes.scatter(x, y, s=26, linewidths=1.2, **style))
    axes.grid(**FAINT)
    axes.set_xlabel(shown(names[result["x"]], 50))
    axes.set_ylabel(shown(names[result["y"]], 40))
    legend_below(figure, handles, [one["label"] for one in result["series"]])
    told = (
        "Every finished run."
        if "names" in result
        else "Points on the way of every run, on fewer rows than the table."
    )
    return Drawn("Relation", told, figure)
