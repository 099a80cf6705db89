"""The table by document beside an evaluation: what each document gave, for comparisons in pairs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch

from calmkit.interfaces import stored_name
from calmkit.training.checkpoints import write_text


def write_documents(evaluation: Path, table: tuple[Sequence[str], torch.Tensor] | None) -> None:
    """Beside an evaluation's file, `<its name>-documents.csv`: what each document (or whatever units come
    from) gave, for comparisons in pairs; where that is not known there is none, an older one neither.
    """
    if table is None:
        documents_file(evaluation).unlink(missing_ok=True)
        return
    columns, sums = table
    rows = [[str(int(line[0])), *(f"{value:.10g}" for value in line[1:])] for line in sums.tolist()]
    text = "\n".join(",".join(row) for row in [list(columns), *rows])
    write_text(documents_file(evaluation), text + "\n")


def write_sums(
    evaluation: Path,
    tables: Mapping[str, tuple[Sequence[str], torch.Tensor]],
    keep: Collection[str] = (),
) -> None:
    """Beside an evaluation's file, `<its name>-documents-<measure>.csv` for each measure.

    Args:
        evaluation: The evaluation's file.
        tables: Measure -> its keys, and `[documents, 2 + C]`: number, sum of each key, and units.
        keep: Measures whose older table stays; no others do.
    """
    for older in measures_with_documents(evaluation):
        if older not in keep:
            documents_file(evaluation, older).unlink()
    for measure, (keys, table) in tables.items():
        heads = ["document", *(stored_name(measure, key) for key in keys), "units"]
        rows = [[str(int(line[0])), *(f"{value:.10g}" for value in line[1:])] for line in table.tolist()]
        text = "\n".join(",".join(row) for row in [heads, *rows])
        write_text(documents_file(evaluation, measure), text + "\n")


def measures_with_documents(evaluation: Path) -> list[str]:
    """The measures that have a table by document beside an evaluation's file."""
    beginning = f"{evaluation.stem}-documents-"
    return sorted(path.stem.removeprefix(beginning) for path in evaluation.parent.glob(f"{beginning}*.csv"))


def documents_file(evaluation: Path, measure: str = "") -> Path:
    """The table by document of an evaluation's file: its kind's own, or a measure's."""
    return evaluation.with_name(f"{evaluation.stem}-documents{f'-{measure}' if measure else ''}.csv")
