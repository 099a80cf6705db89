"""Labels: one rule for studies and comparisons, by hand, and what a run's description says of its study."""

from __future__ import annotations

from pathlib import Path

import pytest

from calmkit.registry import make_manager
from calmkit.studies.labels import described, label_in, part_names, setting_label
from calmkit.studies.schema import read_study


@pytest.mark.parametrize(
    ("key", "among", "label"),
    [
        ("head", ["head"], "x"),
        ("head.name", ["head.name", "head.depth"], "x"),
        ("backbone.name", ["backbone.name"], "backbone=x"),
        ("stages.lm.optimizer.lr", ["head", "stages.lm.optimizer.lr"], "lr=x"),
        ("head.depth", ["head.depth", "backbone.depth"], "head.depth=x"),
        ("seed", ["seed", "head"], "seed=x"),
    ],
)
def test_a_setting_by_hand(key: str, among: list[str], label: str) -> None:
    assert setting_label(key, "x", among) == label


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("[{name: normalise, per: dimension}, {name: adaptor, layers: [1, 2]}]", "normalise,adaptor"),
        ("[]", ""),
        ("[0.9, 0.95]", ""),
        ("[{per: dimension}]", ""),
        ("normalise", ""),
        ("a: [b", ""),
    ],
)
def test_the_names_of_a_list_of_parts_by_hand(value: str, names: str) -> None:
    assert part_names(value) == names


def test_the_cells_of_a_study_go_by_it() -> None:
    """Two depths are told in full; a value of several keys without a label says each."""
    text = (
        "calmkit_study: 1\nname: s\nbase: tiny/energy\ngrid:\n"
        "  model: [{head: flow, head.num_steps: 2}, {label: mine, head: energy, head.depth: 1}]\n"
        "  backbone.depth: [2]\n"
    )
    cells = read_study(text, Path("s.yaml"), make_manager(guests=[])).cells
    assert [cell.label for cell in cells] == ["flow num_steps=2 backbone.depth=2", "mine backbone.depth=2"]


@pytest.mark.parametrize("label", ["energy", "flow lr=1.0e-3", "K = 4 [small]", "a, seed 2", ""])
@pytest.mark.parametrize("description", ["", "Energy head.", "With [brackets], seed 3]"])
def test_a_description_gives_its_label_back(description: str, label: str) -> None:
    assert label_in(described(description, f"{label}, seed 3"), 3) == label


@pytest.mark.parametrize(
    "description", ["", "Mine.", "[energy, seed 4]", "energy, seed 3]", "[energy, seed 3]."]
)
def test_a_description_of_no_study_has_no_label(description: str) -> None:
    assert label_in(description, 3) == ""
