"""The table of a study's block lengths: the same models on rows of several lengths."""

from __future__ import annotations

from calmkit.report.measures import measure
from calmkit.report.reading import Summary
from calmkit.report.render import Grid

HEADS = ("model", "block", "context", "units", "seeds", "BrierLM", "seeds 95 %", "text 95 %")


def block_grid(summary: Summary) -> Grid | None:
    """One row per cell and length; None where the study asks for none."""
    if not summary.get("blocks"):
        return None
    brier = measure("brier_lm")
    rows = [
        [
            row["cell"],
            f"{row['block_tokens']:,.0f}",
            f"{row['context_tokens']:,.0f}",
            f"{row['units']:,.0f}",
            str(row["seeds"]),
            brier.text(row["brier_lm"]),
            brier.interval(row["seed_low"], row["seed_high"]),
            brier.interval(row["text_low"], row["text_high"]),
        ]
        for row in summary["blocks"]
    ]
    notes = [
        "Block: tokens of an evaluated row; context: tokens before a scored position, on average. Seeds "
        "95 %: had other seeds been drawn. Text 95 %: had other documents been held out."
    ]
    return Grid("Block length alone moves BrierLM", HEADS, rows, 1, notes)
