"""Block lengths: how far the length of the evaluated rows alone moves a score."""

from __future__ import annotations

from calmkit.report.figures import FAINT, Drawn, colour_and_marker, legend_below, make_figure
from calmkit.report.kind import words_of
from calmkit.report.log_ticks import apart
from calmkit.report.measures import measure
from calmkit.report.reading import Summary

ENDS = ("text_low", "text_high")


def blocks_figure(summary: Summary) -> Drawn | None:
    """A line per cell over the length of a row; None where the study asks for no lengths."""
    if not summary.get("blocks"):
        return None
    words = words_of(summary)
    block, usual = f"block_{words.element}s", words.primary
    figure = make_figure(2.9)
    (axes,) = figure.axes
    handles, labels = [], list(dict.fromkeys(row["cell"] for row in summary["blocks"]))
    for label in labels:
        rows = [row for row in summary["blocks"] if row["cell"] == label]
        colour, marker = colour_and_marker(summary, label)
        x, y = [row[block] for row in rows], [row[usual] for row in rows]
        ends = [[row[usual] if row[end] is None else row[end] for row in rows] for end in ENDS]
        around = [[max(0.0, b - a) for a, b in zip(ends[0], y, strict=True)]]
        around += [[max(0.0, b - a) for a, b in zip(y, ends[1], strict=True)]]
        axes.errorbar(x, y, yerr=around, color=colour, linewidth=0, elinewidth=1, capsize=2.5)
        handles += axes.plot(x, y, color=colour, marker=marker, markersize=5)
    lengths = sorted({float(row[block]) for row in summary["blocks"]})
    if len(lengths) > 1:
        axes.set_xscale("log")
        lengths = apart(lengths, *map(float, axes.get_xlim()))
    axes.set_xticks(lengths, [f"{length:g}" for length in lengths])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", **FAINT)
    axes.set_xlabel(f"block: {words.element}s of an evaluated row")
    axes.set_ylabel(measure(usual, summary).name)
    legend_below(figure, handles, labels)
    caption = (
        f"The same trained models on the same held-out {words.data}, cut into rows of several lengths: a "
        f"longer row gives its positions more {words.data} before them. Means over seeds; bars: 95 % over "
        f"{words.data}."
    )
    return Drawn("Block length", caption, figure)
