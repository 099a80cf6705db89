"""The table of a study's samplers: accuracy against collision, and what each costs."""

from __future__ import annotations

from typing import Any

from calmkit.metrics.blocks import FEWEST_GROUPS
from calmkit.report.kind import words_of
from calmkit.report.measures import Shown, measure
from calmkit.report.reading import Summary, span
from calmkit.report.render import Grid
from calmkit.results.sampling_lines import Row


def sampling_grid(summary: Summary) -> Grid | None:
    """One row per cell and sampler, means over seeds; None where the study asks for none."""
    result: dict[str, Any] = summary.get("sampling") or {}
    if not result:
        return None
    rows, words = result["rows"], words_of(summary)
    usual = measure(words.primary, summary)
    heads = [
        "model", "sampler", "accuracy %", "+-", "collision %", "+-", usual.name, "seeds 95 %",
        f"{words.data} 95 %", "draws/unit", "head calls/unit", "mean level", "fell back %",
    ]  # fmt: skip
    seeds = span((row.get("seeds", 1) for row in rows), "d")
    units = span((row["units"] for row in rows), ",d")
    notes = [
        f"{units} held-out units per line and seed, seeds: {seeds}; +- is one standard error, over seeds "
        f"where there are two or more, else over rows. {usual.name}, seeds 95 %: had other seeds been "
        "drawn, - "
        f"where all stand at 0, the least there is; {words.data} 95 %: had other {words.group}s been "
        f"held out, - where fewer than {FEWEST_GROUPS} of them were scored."
    ]
    notes += _left_out(result["left_out"])
    title = f"Samplers: accuracy and collision, geometric means over {words.first}"
    return Grid(title, heads, [_texts(row, words.primary, usual) for row in rows], 2, notes)


def _left_out(known: list[dict[str, str]]) -> list[str]:
    """One sentence per cell and reason, however many samplers it holds for."""
    samplers: dict[tuple[str, str], list[str]] = {}
    for one in known:
        samplers.setdefault((one["cell"], one["why"].rstrip(".")), []).append(one["sampler"])
    return [f"Left out for {cell}: {', '.join(names)}: {why}." for (cell, why), names in samplers.items()]


def _texts(row: Row, name: str, usual: Shown) -> list[str]:
    calls = row["network_calls_per_unit"]
    return [
        row["cell"],
        row["sampler"],
        f"{row['accuracy']:.2f}",
        _or_dash(row["accuracy_se"]),
        f"{row['collision']:.2f}",
        _or_dash(row["collision_se"]),
        usual.text(row[name]),
        *(usual.interval(row[f"{name}_{of}_low"], row[f"{name}_{of}_high"]) for of in ("seed", "text")),
        f"{row['draws_per_unit']:.1f}",
        "adaptive" if calls is None else f"{calls:.1f}",
        _or_dash(row["mean_level"]),
        f"{100 * row['fallback_share']:.1f}",
    ]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
