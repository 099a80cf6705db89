"""Tables by group beside an evaluation: called by the word of their kind, and found under the older one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from calmkit.images.described import NATS
from calmkit.images.words import WORDS as IMAGES
from calmkit.results.statistics import read_table
from calmkit.text.metrics.described import COLUMNS
from calmkit.text.words import WORDS as TEXT
from calmkit.training.groups import (
    groups_file,
    measures_with_groups,
    write_groups,
    write_sums,
    written_groups,
)

SUMS = torch.tensor([[7.0, 2.0, 4.0], [9.0, 1.0, 3.0]])


@pytest.mark.parametrize(
    ("group", "name"), [(TEXT.group, "evaluation-documents.csv"), (IMAGES.group, "evaluation-images.csv")]
)
def test_a_table_has_the_word_of_its_kind(group: str, name: str, tmp_path: Path) -> None:
    evaluation = tmp_path / "evaluation.json"
    write_groups(evaluation, group, ((group, "nats", "dimensions"), SUMS))
    write_sums(evaluation, group, {"width": (("",), SUMS)})
    assert (tmp_path / name).read_text() == f"{group},nats,dimensions\n7,2,4\n9,1,3\n"
    assert groups_file(evaluation, group, "width").read_text() == f"{group},width,units\n7,2,4\n9,1,3\n"
    found = read_table(written_groups(evaluation, group), ("nats", "dimensions"))
    assert {number: sums.tolist() for number, sums in found.items()} == {7: [2, 4], 9: [1, 3]}
    assert measures_with_groups(evaluation, group) == ["width"]


def test_the_first_column_of_a_kind_is_its_word() -> None:
    assert (COLUMNS[0], NATS[0]) == (TEXT.group, IMAGES.group)


def test_a_table_of_an_older_run_is_read_and_replaced(tmp_path: Path) -> None:
    """Before there was a word for each kind, images too had `evaluation-documents.csv`."""
    evaluation = tmp_path / "evaluation.json"
    for name in ("evaluation-documents.csv", "evaluation-documents-width.csv"):
        (tmp_path / name).write_text("document,nats,dimensions\n7,2,4\n")
    assert measures_with_groups(evaluation, "image") == ["width"]
    found = read_table(written_groups(evaluation, "image"), ("nats", "dimensions"))
    assert found[7].tolist() == [2, 4]
    write_groups(evaluation, "image", (NATS, SUMS))
    write_sums(evaluation, "image", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation-images.csv"]
