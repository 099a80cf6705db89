"""The tables by group beside an evaluation: what each group of units gave, for comparisons in pairs.

What units come from, and so what such a table is called, is a word of their kind of data
(`KindWords.group`): of a kind whose groups are recordings it is `<name of the evaluation>-recordings.csv`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch

from calmkit.interfaces import GROUP_BEFORE, stored_name
from calmkit.sums import drop_sums
from calmkit.training.checkpoints import write_text


def write_groups(evaluation: Path, group: str, table: tuple[Sequence[str], torch.Tensor] | None) -> None:
    """Beside an evaluation's file, `<its name>-<group>s.csv`: what each group gave, for comparisons in pairs;
    where that is not known there is none, an older one neither.

    Args:
        evaluation: The evaluation's file.
        group: The word for one, see `KindWords.group`.
        table: See `Scores.table`.
    """
    groups_file(evaluation, GROUP_BEFORE).unlink(missing_ok=True)
    if table is None:
        drop_sums(groups_file(evaluation, group))
        groups_file(evaluation, group).unlink(missing_ok=True)
        return
    columns, sums = table
    _write(groups_file(evaluation, group), columns, sums)


def write_sums(
    evaluation: Path,
    group: str,
    tables: Mapping[str, tuple[Sequence[str], torch.Tensor]],
    keep: Collection[str] = (),
) -> None:
    """Beside an evaluation's file, `<its name>-<group>s-<measure>.csv` for each measure.

    Args:
        evaluation: The evaluation's file.
        group: The word for one, see `KindWords.group`.
        tables: Measure -> its keys, and `[groups, 2 + C]`: number, sum of each key, and units.
        keep: Measures whose older table stays; no others do.
    """
    for older in measures_with_groups(evaluation, group):
        if older not in keep:
            for word in (group, GROUP_BEFORE):
                drop_sums(groups_file(evaluation, word, older))
                groups_file(evaluation, word, older).unlink(missing_ok=True)
    for measure, (keys, table) in tables.items():
        heads = [group, *(stored_name(measure, key) for key in keys), "units"]
        _write(groups_file(evaluation, group, measure), heads, table)


def measures_with_groups(evaluation: Path, group: str) -> list[str]:
    """The measures that have a table by group beside an evaluation's file."""
    found: set[str] = set()
    for word in (group, GROUP_BEFORE):
        beginning = f"{groups_file(evaluation, word).stem}-"
        found |= {path.stem.removeprefix(beginning) for path in evaluation.parent.glob(f"{beginning}*.csv")}
    return sorted(found)


def groups_file(evaluation: Path, group: str, measure: str = "") -> Path:
    """Where the table by group of an evaluation's file is written: its kind's own, or a measure's."""
    return evaluation.with_name(f"{evaluation.stem}-{group}s{f'-{measure}' if measure else ''}.csv")


def written_groups(evaluation: Path, group: str, measure: str = "") -> Path:
    """Where it stands: under the word of its kind, or, of an older run, under the one that all kinds had."""
    found, before = (groups_file(evaluation, word, measure) for word in (group, GROUP_BEFORE))
    return before if before.is_file() and not found.is_file() else found


def _write(file: Path, heads: Sequence[str], sums: torch.Tensor) -> None:
    rows = [[str(int(line[0])), *(f"{value:.10g}" for value in line[1:])] for line in sums.tolist()]
    write_text(file, "\n".join(",".join(row) for row in [list(heads), *rows]) + "\n")
