"""The scores of a study's cells: means, both intervals, every seed, and what they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calmkit.report.figures import Drawn, colour_and_marker, make_figure, shown
from calmkit.report.kind import words_of
from calmkit.report.marks import mark
from calmkit.report.measures import measure
from calmkit.report.reading import Rival, Summary, done, ranked, references, scale, score, shown_score
from calmkit.results.statistics import Interval

ROOM = 0.06  # of the axis, on both sides of what is shown
REACH = 1.5  # a line this many times as far as the best model is still drawn
LETTER = 5.0  # points: a letter of the small labels, on average
SMALL = 8


def scores_figure(summary: Summary) -> Drawn | None:
    """The figure; None where no trial is done."""
    cells = [cell for cell in ranked(summary) if score(cell, summary["primary"]) is not None]
    if not cells:
        return None
    figure = make_figure(0.44 * max(2, len(cells)) + 1.5)
    draw_scores(figure.axes[0], summary)
    shown_name = measure(summary["primary"], summary).name
    caption = (
        f"{shown_name} at the end of training. Thick: 95 % over seeds; thin: 95 % over held-out "
        f"{words_of(summary).data}; "
        f"small strokes: single seeds; an arrow: it goes on. {_lines_told(summary)}Measured on "
        f"{scale(summary)}."
    )
    return Drawn("Score at the end", caption, figure)


def draw_scores(axes: Any, summary: Summary) -> None:
    """The same on given axes."""
    name = summary["primary"]
    shown_as = measure(name, summary)
    cells = [cell for cell in reversed(ranked(summary)) if score(cell, name) is not None]
    scores = [shown_score(summary, cell) for cell in cells]
    seeds = [[shown_as.factor * trial["evaluation"][name] for trial in done(cell)] for cell in cells]
    lines = _reference_values(summary)
    low, high = _limits([one for one in scores if one], seeds, shown_as.factor, [one.value for one in lines])
    axes.set_xlim(low, high if high > low else low + 1)  # where nothing was learned all are 0
    for height, (cell, found, values) in enumerate(zip(cells, scores, seeds, strict=True)):
        assert found is not None
        colour, marker = colour_and_marker(summary, cell["label"])
        _draw_interval(axes, height, found, shown_as.factor, colour)
        axes.plot(
            shown_as.factor * found.mean, height, marker, color=colour, markersize=6, zorder=4, clip_on=False
        )
        if len(values) > 1:
            axes.plot(values, [height - 0.28] * len(values), "|", color=colour, markersize=6)
        axes.annotate(
            shown_as.text(found.mean), (1, height), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center",
        )  # fmt: skip
    axes.set_yticks(range(len(cells)), [shown(cell["label"] + mark(summary, cell)) for cell in cells])
    axes.set_ylim(-0.6, len(cells) - 0.4)
    axes.tick_params(axis="y", length=0, pad=8)  # room for a marker that stands at the edge
    axes.spines["left"].set_visible(False)
    _draw_lines(axes, [one for one in lines if low <= one.value <= high])
    axes.set_xlabel(shown_as.name)


def _draw_interval(axes: Any, height: int, found: Interval, factor: float, colour: str) -> None:
    low, high = axes.get_xlim()
    if found.seed_low is not None and found.seed_high is not None:
        ends = factor * found.seed_low, factor * found.seed_high
        inside = max(low, ends[0]), min(high, ends[1])
        axes.plot(inside, [height] * 2, color=colour, alpha=0.4, linewidth=7, solid_capstyle="butt")
        for goes_on, edge, arrow in ((ends[0] < low, low, "<"), (ends[1] > high, high, ">")):
            if goes_on:
                axes.plot(edge, height, arrow, color=colour, markersize=6, clip_on=False)
    if found.text_low is not None and found.text_high is not None:
        mean, ends = factor * found.mean, (factor * found.text_low, factor * found.text_high)
        around = [[max(0.0, mean - ends[0])], [max(0.0, ends[1] - mean)]]
        axes.errorbar(mean, height, xerr=around, color="black", capsize=3, linewidth=1.1, zorder=3)


def _limits(
    scores: Sequence[Interval], seeds: Sequence[Sequence[float]], factor: float, lines: Sequence[float]
) -> tuple[float, float]:
    """Around all means, seeds and intervals over data; seed intervals may leave, they can be very wide."""
    means = [value for values in seeds for value in values] + [factor * one.mean for one in scores]
    inner = means + [factor * e for one in scores for e in (one.text_low, one.text_high) if e is not None]
    low, high = min(inner), max(inner)
    reach = (high - low) or abs(high) or 1.0
    wide = [factor * e for one in scores for e in (one.seed_low, one.seed_high) if e is not None]
    low = max(min([low, *wide]), low - reach)
    high = min(max([high, *wide]), high + reach)
    if 0 <= low < 0.6 * high or low == high or low < 0 <= min(means):
        low = 0.0  # worth seeing where it is near; and no score of this kind lies below
    high = max([high, *(value for value in lines if value <= REACH * high)])
    room = ROOM * (high - low)
    return low if low == 0 else low - room, high + room


def _reference_values(summary: Summary) -> list[Rival]:
    return references(summary) if summary["primary"] == words_of(summary).primary else []


def _draw_lines(axes: Any, lines: Sequence[Rival]) -> None:
    """Upright lines with their names above, each on the lowest level where it meets no other."""
    low, high = axes.get_xlim()
    width = axes.get_position().width * axes.figure.get_figwidth() * 72
    ends: list[float] = []  # of each level, in points
    for one in sorted(lines, key=lambda line: line.value):
        name, value = one.label, one.value
        axes.axvline(value, color="black", linewidth=0.9, linestyle=one.line, zorder=1)
        centre, half = width * (value - low) / (high - low), LETTER * len(name) / 2
        level = next((i for i, end in enumerate(ends) if end < centre - half), len(ends))
        ends[level : level + 1] = [centre + half + 4]
        axes.annotate(
            name, (value, 1), (0, 2 + 10 * level), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", va="bottom", fontsize=SMALL,
        )  # fmt: skip


def _lines_told(summary: Summary) -> str:
    lines = _reference_values(summary)
    if not lines:
        return ""
    told = ", ".join(f"{one.label} {one.value:.2f}" for one in lines)
    best = "".join(f", and the {one.label}" for one in lines if one.line != ":")
    return f"Lines: {words_of(summary).lines_told}{best}: {told}. "
