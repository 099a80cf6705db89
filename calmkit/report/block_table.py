"""The table of a study's block lengths: the same models on rows of several lengths."""

from __future__ import annotations

from calmkit.report.kind import words_of
from calmkit.report.measures import measure
from calmkit.report.reading import Summary
from calmkit.report.render import Grid


def block_grid(summary: Summary) -> Grid | None:
    """One row per cell and length; None where the study asks for none."""
    if not summary.get("blocks"):
        return None
    words = words_of(summary)
    usual, what = measure(words.primary, summary), f"{words.element}s"
    heads = ["model", "block", "context", "units", "seeds", usual.name, "seeds 95 %", f"{words.data} 95 %"]
    rows = [
        [
            row["cell"],
            f"{row[f'block_{what}']:,.0f}",
            _whole(row.get(f"context_{what}")),
            _whole(row.get("units")),
            str(row["seeds"]),
            usual.text(row[words.primary]),
            usual.interval(row["seed_low"], row["seed_high"]),
            usual.interval(row["text_low"], row["text_high"]),
        ]
        for row in summary["blocks"]
    ]
    notes = [
        f"Block: {what} of an evaluated row; context: {what} before a scored position, on average. Seeds "
        f"95 %: had other seeds been drawn. {words.data.capitalize()} 95 %: had other {words.group}s "
        "been held out."
    ]
    return Grid(f"Block length alone moves {usual.name}", heads, rows, 1, notes)


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
