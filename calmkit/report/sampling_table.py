"""The table of a study's samplers: accuracy against collision, and what each costs."""

from __future__ import annotations

from typing import Any

from calmkit.metrics.blocks import FEWEST_DOCUMENTS
from calmkit.report.measures import measure
from calmkit.report.reading import span
from calmkit.report.render import Grid
from calmkit.results.sampling_lines import Row

HEADS = (
    "model", "sampler", "accuracy %", "+-", "collision %", "+-", "BrierLM", "seeds 95 %",
    "text 95 %", "draws/unit", "head calls/unit",
    "mean level", "fell back %",
)  # fmt: skip


def sampling_grid(result: dict[str, Any]) -> Grid:
    """One row per cell and sampler, means over seeds."""
    rows = result["rows"]
    seeds = span((row.get("seeds", 1) for row in rows), "d")
    units = span((row["units"] for row in rows), ",d")
    notes = [
        f"{units} held-out units per line and seed, seeds: {seeds}; +- is one standard error, over seeds "
        "where there are two or more, else over rows. BrierLM, seeds 95 %: had other seeds been drawn, - "
        "where all stand at 0, the least there is; text 95 %: had other documents been held out, - where "
        f"fewer than {FEWEST_DOCUMENTS} of them were scored."
    ]
    notes += _left_out(result["left_out"])
    title = "Samplers: accuracy and collision, geometric means over the first 1 to 4 tokens"
    return Grid(title, HEADS, [_texts(row) for row in rows], 2, notes)


def _left_out(known: list[dict[str, str]]) -> list[str]:
    """One sentence per cell and reason, however many samplers it holds for."""
    samplers: dict[tuple[str, str], list[str]] = {}
    for one in known:
        samplers.setdefault((one["cell"], one["why"].rstrip(".")), []).append(one["sampler"])
    return [f"Left out for {cell}: {', '.join(names)}: {why}." for (cell, why), names in samplers.items()]


def _texts(row: Row) -> list[str]:
    calls, brier = row["network_calls_per_unit"], measure("brier_lm")
    return [
        row["cell"],
        row["sampler"],
        f"{row['accuracy']:.2f}",
        _or_dash(row["accuracy_se"]),
        f"{row['collision']:.2f}",
        _or_dash(row["collision_se"]),
        brier.text(row["brier_lm"]),
        *(brier.interval(row[f"brier_lm_{of}_low"], row[f"brier_lm_{of}_high"]) for of in ("seed", "text")),
        f"{row['draws_per_unit']:.1f}",
        "adaptive" if calls is None else f"{calls:.1f}",
        _or_dash(row["mean_level"]),
        f"{100 * row['fallback_share']:.1f}",
    ]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
