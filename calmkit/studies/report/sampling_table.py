"""The table of a study's samplers: accuracy against collision, and what each costs."""

from __future__ import annotations

from typing import Any

from calmkit.studies.report.reading import span
from calmkit.studies.report.render import Grid
from calmkit.studies.sampling import Row

HEADS = (
    "model", "sampler", "accuracy %", "+-", "collision %", "+-", "BrierLM", "draws/unit", "head calls/unit",
    "mean level", "fell back %",
)  # fmt: skip


def sampling_grid(result: dict[str, Any]) -> Grid:
    """One row per cell and sampler, means over seeds."""
    rows = result["rows"]
    seeds = span((row.get("seeds", 1) for row in rows), "d")
    units = span((row["units"] for row in rows), ",d")
    notes = [
        f"{units} held-out units per line and seed, seeds: {seeds}; +- is one standard error, over seeds "
        "where there are two or more, else over rows."
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
    calls = row["network_calls_per_unit"]
    return [
        row["cell"],
        row["sampler"],
        f"{row['accuracy']:.2f}",
        _or_dash(row["accuracy_se"]),
        f"{row['collision']:.2f}",
        _or_dash(row["collision_se"]),
        f"{row['brier_lm']:.2f}",
        f"{row['draws_per_unit']:.1f}",
        "adaptive" if calls is None else f"{calls:.1f}",
        _or_dash(row["mean_level"]),
        f"{100 * row['fallback_share']:.1f}",
    ]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
