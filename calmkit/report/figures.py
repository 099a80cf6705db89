"""figures: what all figures share: one colour and marker per cell, one style, legends below, SVG.

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
from typing import Any
from xml.sax.saxutils import quoteattr

from calmkit.report.reading import Summary
from calmkit.report.render import plain

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#7f3c8d", "#56b4e9", "#555555")
"""Okabe and Ito's colours, told apart by colour-blind readers; lines also differ by marker. https://jfly.uni-koeln.de/color/"""
MARKERS = "osD^vP*X"
WIDTH = 4.5  # inches, 324 points: on a phone of 360 px a point is about a pixel
STYLE = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "legend.fontsize": 10,
    "ytick.major.pad": 5,
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
LEGEND_LINE = 0.2  # inches
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
    """A legend under the axes, where it covers nothing, in as many columns as fit; the figure grows by it."""
    texts = [shown(label, 46) for label in labels]
    widest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    columns = max(1, min(len(texts), int(figure.get_figwidth() * 72 // (5.8 * widest + 36))))
    rows = [texts[i : i + columns] for i in range(0, len(texts), columns)]
    lines = sum(1 + max(text.count("\n") for text in row) for row in rows)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * lines)
    figure.legend(
        handles, texts, loc="outside lower left", ncols=columns, columnspacing=1.2, handlelength=1.8
    )


def panel_title(axes: Any, text: str, columns: int) -> None:
    """What a panel among others shows, in as many lines as it takes."""
    axes.set_title(shown(text, 19 if columns > 1 else 40), loc="left", fontsize=9.5)


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
