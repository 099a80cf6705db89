"""The table of a study's block lengths: the same models on rows of several lengths."""

from __future__ import annotations

from calmkit.studies.report.reading import Summary
from calmkit.studies.report.render import Grid

HEADS = ("model", "block", "context", "units", "seeds", "BrierLM", "text 95 %")


def block_grid(summary: Summary) -> Grid | None:
    """One row per cell and length; None where the study asks for none."""
    if not summary.get("blocks"):
        return None
    rows = [
        [
            row["cell"],
            f"{row['block_tokens']:,.0f}",
            f"{row['context_tokens']:,.0f}",
            f"{row['units']:,.0f}",
            str(row["seeds"]),
            f"{row['brier_lm']:.2f}",
            f"[{row['low']:.2f}, {row['high']:.2f}]",
        ]
        for row in summary["blocks"]
    ]
    notes = [
        "Block: tokens of an evaluated row; context: tokens before a scored position, on average. Intervals "
        "are over the text, averaged over seeds."
    ]
    return Grid("Block length alone moves BrierLM", HEADS, rows, 1, notes)
