"""report.html: one self-contained page of a study. No network, opens from disk, light and dark, readable on
a phone.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import jinja2

from calmkit.studies.table import COLUMNS, ranked, references, standing, total_train_flops
from calmkit.training.checkpoints import write_text

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#7f3c8d", "#555555")
"""Okabe and Ito's colours, told apart by colour-blind readers; lines also differ by marker. https://jfly.uni-koeln.de/color/"""
MARKERS = "osD^vP*X"


def write_report(summary: dict[str, Any], path: Path) -> None:
    """Write the page of a study's results."""
    cells = ranked(summary)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("calmkit.studies"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        summary=summary,
        cells=cells,
        heads=[column.head for column in COLUMNS],
        rows=[[column.text(cell) for column in COLUMNS] for cell in cells],
        references=references(summary),
        standings=[standing(cell) for cell in cells],
        bars=jinja2.utils.markupsafe.Markup(_bars(summary)),
        curves=jinja2.utils.markupsafe.Markup(_curves(summary)),
        tflops=max(total_train_flops(cell) for cell in cells) / 1e12,
        minutes=summary["seconds"] / 60,
    )
    write_text(path, page)


def write_picture(summary: dict[str, Any], path: Path) -> None:
    """The bars and curves side by side as one SVG file, for a README."""
    figure = _figure((10.5, 3.8), 2)
    _draw_bars(figure.axes[0], summary)
    _draw_curves(figure.axes[1], summary)
    path.write_text(_svg(figure, ink=False), encoding="utf-8")


def _figure(size: tuple[float, float], panels: int = 1) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.subplots(1, panels)
    return figure


def _bars(summary: dict[str, Any]) -> str:
    figure = _figure((6.4, 0.62 * len(summary["cells"]) + 1.5))
    _draw_bars(figure.axes[0], summary)
    return _svg(figure)


def _curves(summary: dict[str, Any]) -> str:
    figure = _figure((6.4, 3.8))
    _draw_curves(figure.axes[0], summary)
    return _svg(figure)


def _colour(summary: dict[str, Any], label: str) -> tuple[str, str]:
    index = [cell["label"] for cell in summary["cells"]].index(label)
    return PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]


def _draw_bars(axes: Any, summary: dict[str, Any]) -> None:
    cells = list(reversed(ranked(summary)))
    for height, cell in enumerate(cells):
        e = cell["evaluation"]
        colour, _ = _colour(summary, cell["label"])
        around = [[e["brier_lm"] - e["brier_lm_low"]], [e["brier_lm_high"] - e["brier_lm"]]]
        axes.barh(height, e["brier_lm"], 0.66, color=colour)
        axes.errorbar(e["brier_lm"], height, xerr=around, color="black", capsize=3, linewidth=1)
        axes.annotate(
            f"{e['brier_lm']:.2f}",
            (e["brier_lm_high"], height),
            (6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(cells)), [cell["label"] for cell in cells])
    for index, (name, value) in enumerate(references(summary)):
        axes.axvline(value, color="black", linewidth=0.9, linestyle=":")
        axes.annotate(
            name,
            (value, len(cells) - 0.45),
            (0, 2 + 9 * (index % 2)),  # neighbours may stand close
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
        )
    axes.set_xlabel("BrierLM on held-out text, with 95 % interval")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.08)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curves(axes: Any, summary: dict[str, Any]) -> None:
    for cell in summary["cells"]:
        colour, marker = _colour(summary, cell["label"])
        first = cell["facts"].get("autoencoder_train_flops", 0)
        points = cell["curve"]
        x = [(first + point["flops"]) / 1e12 for point in points]
        axes.plot(
            x,
            [p["brier_lm"] for p in points],
            color=colour,
            marker=marker,
            markersize=4.5,
            label=cell["label"],
        )
    for name, value in references(summary):
        axes.axhline(value, color="black", linewidth=0.9, linestyle=":")
        axes.annotate(
            name,
            (1, value),
            (-2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.set_xlabel("training TFLOPs, autoencoder included")
    axes.set_ylabel("BrierLM (fewer rows)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _svg(figure: Any, ink: bool = True) -> str:
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
