"""The scatter of a relation: one series per cell, hollow where the likelihood is a bound, faint where a
measure is cut off at 0; a line stands where a number means something by itself.
"""

from __future__ import annotations

from calmkit.report.figures import FAINT, Drawn, colour_and_marker, legend_below, make_figure, shown
from calmkit.report.kind import number_of, words_of
from calmkit.report.reading import Summary
from calmkit.results.relation import names_of, of_ends


def relation_figure(summary: Summary) -> Drawn | None:
    """The points of every cell; None where the study relates nothing."""
    result = summary.get("relation")
    if not result or not result["series"]:
        return None
    words = words_of(summary).relate
    names = {**names_of(words), **result.get("names", {})}
    either = words.either if words else ""
    figure = make_figure(3.4)
    (axes,) = figure.axes
    handles = []
    for one in result["series"]:
        colour, marker = colour_and_marker(summary, one["label"])
        x, y = zip(*one["points"], strict=True) if one["points"] else ((), ())
        hollow = either in (result["x"], result["y"]) and not one["exact"]
        style = {"facecolors": "none" if hollow else colour, "edgecolors": colour, "marker": marker}
        handles.append(axes.scatter(x, y, s=26, linewidths=1.2, **style))
        for left, low in one.get("cut_off", ()):
            axes.scatter([left], [low], s=14, linewidths=0.8, alpha=0.5, **style)
    for name, draw in ((result["x"], axes.axvline), (result["y"], axes.axhline)):
        number = number_of(name, summary)
        if number is not None and number.mark is not None:
            draw(number.mark * number.factor, color="black", linewidth=1, linestyle="--")
    axes.grid(**FAINT)
    axes.set_xlabel(shown(names[result["x"]], 50))
    axes.set_ylabel(shown(names[result["y"]], 40))
    legend_below(figure, handles, [one["label"] for one in result["series"]])
    told = "Every finished run."
    if not of_ends(result):
        told = "Points on the way of every run, on fewer rows than the table."
    if any(one.get("cut_off") for one in result["series"]):
        told += " Small and faint: cut off at 0, and in no correlation."
    return Drawn("Relation", told, figure)
