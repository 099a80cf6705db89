"""report.html: one self-contained page of a study. No network, opens from disk, light and dark, readable on
a phone.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import jinja2

from calmkit.studies.figures import as_svg, colour_and_marker, make_figure
from calmkit.studies.relation import relation_text
from calmkit.studies.relation_figure import relation_figure
from calmkit.studies.sampling_figure import sampling_figure, sampling_table
from calmkit.studies.table import (
    COLUMNS,
    ceiling,
    ceiling_text,
    ranked,
    references,
    standing,
    total_train_flops,
)
from calmkit.training.checkpoints import write_text


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
        ceiling=ceiling_text(summary),
        standings=[standing(cell) for cell in cells],
        bars=jinja2.utils.markupsafe.Markup(_bars(summary)),
        curves=jinja2.utils.markupsafe.Markup(_curves(summary)),
        command=shlex.join([summary["study"], *summary.get("overrides", [])]),
        **_asked_for(summary),
        tflops=max(total_train_flops(cell) for cell in cells) / 1e12,
        minutes=summary["seconds"] / 60,
    )
    write_text(path, page)


def _asked_for(summary: dict[str, Any]) -> dict[str, Any]:
    """What only some studies ask for: the relation and the samplers."""
    found: dict[str, Any] = {"relation": None, "sampling": None}
    if summary.get("relation"):
        found["relation"] = relation_text(summary["relation"])
        found["scatter"] = jinja2.utils.markupsafe.Markup(relation_figure(summary))
    if summary.get("sampling"):
        found["sampling"] = sampling_table(summary["sampling"])
        found["trade"] = jinja2.utils.markupsafe.Markup(sampling_figure(summary))
    return found


def write_picture(summary: dict[str, Any], path: Path) -> None:
    """The bars and curves side by side as one SVG file, for a README."""
    figure = make_figure((10.5, 3.8), 2)
    _draw_bars(figure.axes[0], summary)
    _draw_curves(figure.axes[1], summary)
    path.write_text(as_svg(figure, ink=False), encoding="utf-8")


def _bars(summary: dict[str, Any]) -> str:
    figure = make_figure((6.4, 0.62 * len(summary["cells"]) + 1.5))
    _draw_bars(figure.axes[0], summary)
    return as_svg(figure)


def _curves(summary: dict[str, Any]) -> str:
    figure = make_figure((6.4, 3.8))
    _draw_curves(figure.axes[0], summary)
    return as_svg(figure)


def _draw_bars(axes: Any, summary: dict[str, Any]) -> None:
    cells = list(reversed(ranked(summary)))
    for height, cell in enumerate(cells):
        e = cell["evaluation"]
        colour, _ = colour_and_marker(summary, cell["label"])
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
            (value, 1),
            (0, 2 + 9 * (index % 2)),  # neighbours may stand close
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
        )
    if best := ceiling(summary):
        axes.axvline(best["brier_lm"], color="black", linewidth=1.2, linestyle="--")
        axes.annotate(
            "ceiling",
            (best["brier_lm"], 1),
            (0, 20),  # above the others
            xycoords=("data", "axes fraction"),
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
        colour, marker = colour_and_marker(summary, cell["label"])
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
    if best := ceiling(summary):
        axes.axhline(best["brier_lm"], color="black", linewidth=1.2, linestyle="--")
        axes.annotate(
            "ceiling",
            (0, best["brier_lm"]),  # at the other end: the best counting model may stand close
            (2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlabel("training TFLOPs, autoencoder included")
    axes.set_ylabel("BrierLM (fewer rows)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
