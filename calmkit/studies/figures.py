"""Figures of a study: a matplotlib figure without a screen, one colour and marker per cell, inline SVG."""

from __future__ import annotations

import io
import re
from typing import Any

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#7f3c8d", "#555555")
"""Okabe and Ito's colours, told apart by colour-blind readers; lines also differ by marker. https://jfly.uni-koeln.de/color/"""
MARKERS = "osD^vP*X"


def make_figure(size: tuple[float, float], panels: int = 1) -> Any:
    """A figure of so many panels side by side; `figure.axes` holds them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.subplots(1, panels)
    return figure


def colour_and_marker(summary: dict[str, Any], label: str) -> tuple[str, str]:
    """Those of a cell, the same in every figure of a study."""
    index = [cell["label"] for cell in summary["cells"]].index(label)
    return PALETTE[index % len(PALETTE)], MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def as_svg(figure: Any, ink: bool = True) -> str:
    """A figure as inline SVG: text stays text; black becomes the page's ink where `ink` is set."""
    import matplotlib

    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "calmkit", "font.family": "sans-serif"}
    ):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=ink, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    if not ink:
        return svg
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*" ', r"\1\2 ", svg, count=1
    )
    svg = re.sub(r"(fill|stroke): ?#000000", r"\1: currentColor", svg)
    return svg.replace('<text style="', '<text fill="currentColor" style="')
