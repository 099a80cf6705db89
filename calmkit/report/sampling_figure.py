"""The samplers' figure: how often a model is right against how often it agrees with itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from typing import Any

from calmkit.interfaces import KindWords
from calmkit.report.figure_labels import label_points
from calmkit.report.figures import (
    FAINT,
    Drawn,
    colour_and_marker,
    legend_below,
    make_figure,
    shown,
)
from calmkit.report.kind import words_of
from calmkit.report.log_ticks import log_axis
from calmkit.report.reading import Cell, Summary, evaluated, mean, ranked
from calmkit.results.sampling_lines import Row, family, family_label, moving_value

WIDE = 10  # times the smallest collision
LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*X"


def collision_figure(summary: Summary) -> Drawn | None:
    """The samplers' lines where the study has some, else a point of plain draws per cell."""
    if len(words_of(summary).sampled) != 2:
        return None
    sampling = summary.get("sampling")
    if sampling and sampling["rows"]:
        return _samplers(summary)
    return _plain_draws(summary)


def _plain_draws(summary: Summary) -> Drawn | None:
    words = words_of(summary)
    found = [(cell, x, y) for cell in ranked(summary) for x, y in _means(cell, words)]
    if not found:
        return None
    figure = make_figure(3.4)
    (axes,) = figure.axes
    for cell, x, y in found:
        colour, marker = colour_and_marker(summary, cell["label"])
        axes.plot(x, y, marker, color=colour, markersize=7, zorder=3)
    points = [(x, y) for _, x, y in found]
    _draw_frame(axes, points, words)
    diagonal = [(end, end) for end in (min(map(min, points)), max(map(max, points)))]
    label_points(axes, points, [shown(cell["label"]) for cell, _, _ in found], around=[diagonal])
    caption = (
        f"Plain draws, geometric means over {words.first}, means over seeds. Up: right more "
        "often; "
        f"to the right: two draws agree more often. {_diagonal(words)} Below it a model is surer of "
        "itself than it is right."
    )
    return Drawn(_title(words), caption, figure)


def _means(cell: Cell, words: KindWords) -> Iterator[tuple[float, float]]:
    """How often two plain draws of a cell agree, and how often one is right, in percent, if it is known."""
    found: list[list[float]] = []
    for what in reversed(words.sampled):
        values = takewhile(
            lambda value: value is not None, (mean(cell, evaluated(f"{what.name}_{n}")) for n in count(1))
        )
        found.append([value for value in values if value is not None])
    agree, right = found
    if agree and len(agree) == len(right):
        yield geometric(agree), geometric(right)


def _names(words: KindWords) -> tuple[str, str]:
    """What is drawn upwards, and to the right."""
    right, agree = (one.called or one.name for one in words.sampled)
    return right, agree


def _title(words: KindWords) -> str:
    return " against ".join(_names(words)).capitalize()


def _diagonal(words: KindWords) -> str:
    return f"Dashed: {' = '.join(_names(words))}, where the true law of the {words.data} lies on average."


def geometric(shares: list[float]) -> float:
    """Geometric mean in percent; 0 where one is not positive."""
    return 100 * math.prod(max(0.0, share) for share in shares) ** (1 / len(shares))


def _draw_frame(axes: Any, points: list[tuple[float, float]], words: KindWords) -> None:
    """Axes, the diagonal, and what they are called; logarithmic where one point would press all others
    together, as one of a head that always says the same.
    """
    agree, right = zip(*points, strict=True)
    if min(map(min, points)) > 0 and max(agree) > WIDE * min(agree):
        log_axis(axes.xaxis, agree)
        log_axis(axes.yaxis, right)
    else:
        axes.set_xlim(0, 1.12 * max(agree) or 1.0)
        axes.set_ylim(0, 1.12 * max(right) or 1.0)
    ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
    limits = axes.get_xlim(), axes.get_ylim()
    axes.plot(ends, ends, color="black", linewidth=0.9, linestyle="--", zorder=1)
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.grid(**FAINT)
    axes.set_xlabel(f"{words.sampled[1].head}: how often two draws agree")
    axes.set_ylabel(words.sampled[0].head)


def _samplers(summary: Summary) -> Drawn:
    """A line per family of settings, a colour per cell, a marker per sampler."""
    rows, words = summary["sampling"]["rows"], words_of(summary)
    lines = _lines(rows)
    figure = make_figure(3.4)
    (axes,) = figure.axes
    names = list(dict.fromkeys(row["name"] for row in rows))
    seen: dict[tuple[str, str], int] = {}
    handles, labels = [], []
    ends: list[tuple[float, float, str]] = []
    paths = []
    for key, (moving, members) in lines.items():
        cell, name = key[0], key[1]
        colour, _ = colour_and_marker(summary, cell)
        style = LINES[seen.setdefault((cell, name), 0) % len(LINES)]
        seen[cell, name] += 1
        path = [_place_of(row, words) for row in members]
        by = f", by {moving}" if moving and len(members) > 1 else ""
        labels.append(f"{cell}: {family_label(members[0], moving)}{by}")
        marker = MARKERS[names.index(name) % len(MARKERS)]
        paths.append(path)
        handles += axes.plot(
            *zip(*path, strict=True), style, color=colour, marker=marker, markersize=5, linewidth=1.2
        )
        if len(members) > 1:
            ends += [_end(row, moving, words) for row in (members[0], members[-1])]
    _draw_frame(axes, [point for path in paths for point in path], words)
    legend_below(figure, handles, labels)
    label_points(axes, [e[:2] for e in ends], [e[2] for e in ends], must=False, size=8.5, around=paths)
    caption = (
        "Up: right more often; to the right: two choices agree more often. Geometric means over "
        f"{words.first}, means over seeds. A line joins settings of one sampler that differ "
        f"in one number, written at its ends. {_diagonal(words)}"
    )
    return Drawn(_title(words), caption, figure)


def _place_of(row: Row, words: KindWords) -> tuple[float, float]:
    right, agree = (one.factor * float(row[one.name]) for one in words.sampled)
    return agree, right


def _end(row: Row, moving: str, words: KindWords) -> tuple[float, float, str]:
    value = moving_value(row, moving)
    return *_place_of(row, words), "unset" if value is None else f"{value:.3g}"


def _lines(rows: list[Row]) -> dict[tuple[Any, ...], tuple[str, list[Row]]]:
    """The rows of each line in the order of its moving setting."""
    lines: dict[tuple[Any, ...], tuple[str, list[Row]]] = {}
    for row in rows:
        key, moving = family(row, rows)
        lines.setdefault(key, (moving, []))[1].append(row)
    return {key: (moving, sorted(members, key=_place(moving))) for key, (moving, members) in lines.items()}


def _place(moving: str) -> Callable[[Row], float]:
    def place(row: Row) -> float:
        value = moving_value(row, moving)
        return 1.0 if value is None else value  # what a temperature is where nobody sets it

    return place
