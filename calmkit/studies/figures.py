"""figures: what all figures share: one colour and marker per cell, one style, labels that don't collide, SVG.

A figure is drawn narrow, so that its words stay readable on a phone without a width of its own.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import quoteattr

from calmkit.studies.measures import quantity
from calmkit.studies.reading import Summary
from calmkit.studies.render import plain

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#7f3c8d", "#56b4e9", "#555555")
"""Okabe and Ito's colours, told apart by colour-blind readers; lines also differ by marker. https://jfly.uni-koeln.de/color/"""
MARKERS = "osD^vP*X"
WIDTH = 4.8  # inches: on a phone of 360 px a letter keeps about its size
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "calmkit",
}
FAINT = {"color": "black", "alpha": 0.15, "linewidth": 0.6}


@dataclass(frozen=True)
class Drawn:
    """A figure with its words.

    Attributes:
        title: What it shows, for a heading.
        caption: How to read it, and what there is to see.
        figure: A `matplotlib.figure.Figure`.
    """

    title: str
    caption: str
    figure: Any


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, whatever a user's own matplotlib is set to; missing glyphs are no news."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def make_figure(height: float, panels: int = 1, columns: int | None = None, width: float = WIDTH) -> Any:
    """A figure of so many panels, side by side or in so many columns; `figure.axes` holds them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    columns = min(panels, columns or panels)
    rows = -(-panels // columns)
    for axes in figure.subplots(rows, columns, squeeze=False).flat[panels:]:
        axes.remove()
    return figure


def colour_and_marker(summary: Summary, label: str) -> tuple[str, str]:
    """Those of a cell, the same in every figure of a study."""
    return nth_colour_and_marker([cell["label"] for cell in summary["cells"]].index(label))


def nth_colour_and_marker(index: int) -> tuple[str, str]:
    """Different for 64 of them."""
    return PALETTE[index % len(PALETTE)], MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def shown(text: str, width: int = 22) -> str:
    """A user's text as matplotlib shows it as it is: no mathematics, nothing hidden, in lines."""
    lines = textwrap.wrap(plain(text), width) or [""]
    safe = "\n".join(lines).replace("$", r"\$")
    return f"\u2009{safe}" if safe.startswith("_") else safe  # a legend leaves out what begins with _


def legend_below(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend under the axes, where it covers nothing, in as many columns as fit."""
    texts = [shown(label, 52) for label in labels]
    widest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    columns = max(1, min(len(texts), int(figure.get_figwidth() * 72 // (5.2 * widest + 34))))
    figure.legend(
        handles, texts, loc="outside lower left", ncols=columns, columnspacing=1.2, handlelength=1.8
    )


def engineering(value: float, _: Any = None) -> str:
    """A number as an axis of many decades tells it: 2 k, 50 M."""
    return quantity(value).strip()


def log_axis(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic x or y axis with a handful of readable ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = min(values), max(values)
    wide = high / low
    margin = max(1.25, wide**0.12)
    limits = (low / margin, high * margin)
    axes = axis.axes
    if axis.axis_name == "x":
        axes.set_xscale("log")
        axes.set_xlim(limits)
    else:
        axes.set_yscale("log")
        axes.set_ylim(limits)
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide > 300 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(engineering))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


SPOTS = (
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (5, 5, "left", "bottom"),
    (5, -5, "left", "top"),
    (-5, 5, "right", "bottom"),
    (-5, -5, "right", "top"),
)
"""Where a label may stand: points to the right and up, and its sides that face its point."""


def label_points(
    axes: Any,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    bold: Sequence[bool] = (),
    must: bool = True,
    size: float = 9,
    around: Sequence[tuple[float, float]] = (),
) -> None:
    """Write each label beside its point where it meets no other label and no point.

    Args:
        axes: With its limits set.
        points: In data coordinates.
        labels: As matplotlib shows them.
        bold: Which stand out.
        must: Whether a label that finds no room is written all the same, to the right.
        size: Of the letters.
        around: A line through these corners, in data coordinates, on which nothing is written either.
    """
    from matplotlib.transforms import Bbox

    figure = axes.figure
    figure.draw_without_rendering()
    room = axes.get_window_extent()
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in axes.transData.transform(list(points))]
    taken += [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in _along(axes.transData.transform(list(around)))]
    for number, (point, label) in enumerate(zip(points, labels, strict=True)):
        weight = "bold" if bold and bold[number] else "normal"
        others = [box for index, box in enumerate(taken) if index != number]
        for x, y, across, along in SPOTS:
            text = axes.annotate(
                label, point, (x, y), textcoords="offset points", ha=across, va=along, fontsize=size,
                fontweight=weight, linespacing=0.95,
            )  # fmt: skip
            text.set_in_layout(False)
            box = text.get_window_extent()
            inside = (
                box.x0 >= room.x0 - 2 and box.x1 <= room.x1 + 2 and box.y0 >= room.y0 and box.y1 <= room.y1
            )
            if inside and not any(box.overlaps(other) for other in others):
                break
            text.remove()
        else:
            if not must:
                continue
            x, y, across, along = SPOTS[0]
            text = axes.annotate(
                label, point, (x, y), textcoords="offset points", ha=across, va=along, fontsize=size
            )
            text.set_in_layout(False)
        taken.append(text.get_window_extent())


def _along(corners: Any) -> Iterator[tuple[float, float]]:
    """Points of a line through corners, in pixels, near to each other."""
    for (x, y), (right, top) in pairwise(corners):
        steps = max(1, int(max(abs(right - x), abs(top - y)) / 4))
        yield from ((x + (right - x) * i / steps, y + (top - y) * i / steps) for i in range(steps + 1))


def as_svg(figure: Any, name: str = "", told: str = "") -> str:
    """A figure as SVG; text stays text.

    Args:
        figure: A matplotlib figure.
        name: Given, it is for a page: every id begins with it, black becomes the page's ink, colours become
            its `--c0` to `--c7`, and the page's width is its width.
        told: What it shows, for those who can't see it.
    """
    with style():
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=bool(name), metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    if not name:
        return svg
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)  # it would style the page
    head = re.search(r'viewBox="[^"]*"', svg)
    assert head is not None
    svg = svg[svg.index(">") + 1 :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(fill|stroke): ?#000000", r"\1: currentColor", svg)
    for index, colour in enumerate(PALETTE):
        svg = svg.replace(colour, f"var(--c{index}, {colour})")
    svg = svg.replace('<text style="', '<text fill="currentColor" style="')
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    root = 'style="stroke-linejoin: round; stroke-linecap: butt" role="img"'
    return f"<svg {head[0]} {root} aria-label={quoteattr(plain(told))}>{svg}"
