"""The table by document beside an evaluation: what each document gave, for comparisons in pairs."""

from __future__ import annotations

from pathlib import Path

import torch

from calmkit.metrics.brier import NUM_TOKENS
from calmkit.training.checkpoints import write_text

DOCUMENT_COLUMNS = [
    "document",
    *(f"accuracy_{n}" for n in range(1, NUM_TOKENS + 1)),
    *(f"collision_{n}" for n in range(1, NUM_TOKENS + 1)),
    "positions",
]
"""Of a table by document: sums over its positions, not means."""


def write_documents(evaluation: Path, per_document: torch.Tensor | None) -> None:
    """Beside an evaluation's file, `<its name>-documents.csv`: what each document gave, for comparisons in
    pairs; where documents are not known there is none, an older one neither.
    """
    if per_document is None:
        documents_file(evaluation).unlink(missing_ok=True)
        return
    rows = [[str(int(line[0])), *(f"{value:.10g}" for value in line[1:])] for line in per_document.tolist()]
    text = "\n".join(",".join(row) for row in [DOCUMENT_COLUMNS, *rows])
    write_text(documents_file(evaluation), text + "\n")


def documents_file(evaluation: Path) -> Path:
    """The table by document that belongs to an evaluation's file."""
    return evaluation.with_name(f"{evaluation.stem}-documents.csv")
