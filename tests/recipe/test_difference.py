"""Two recipes are compared by what they mean, whatever way they are written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from fake_parts import BASE, fake_manager

from calmkit.recipe.difference import ABSENT, Difference, alike, differences, leaves, recipe_differences
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe

LONG = (
    BASE.replace("{name: plain}\nautoencoder", "{name: plain, vocab_size: 16}\nautoencoder")
    .replace("latent_dim: 6}", "latent_dim: 6, kl_weight: 0.001}")
    .replace("lr: 1e-4", "lr: 0.00010, clip: 1.0")
    .replace("calmkit: 1\n", "calmkit: 1\nname: base\nembedder: tokens\nseed: 1\n")
)
SHORT = BASE.replace("tokenizer: {name: plain}", "tokenizer: plain")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, *overrides: str) -> Recipe:
    Path("base.yaml").write_text(text)
    return load_recipe("base.yaml", overrides, fake_manager())


def test_parts_written_short_and_long_and_defaults_stated_or_not_are_the_same() -> None:
    assert len({LONG, SHORT, BASE}) == 3
    assert recipe_differences(read(LONG), read(SHORT)) == []


def test_a_value_that_differs_is_told_by_its_dotted_key() -> None:
    found = recipe_differences(read(BASE), read(BASE, "stages.lm.optimizer.lr=2e-4", "head.num_draws=6"))
    assert found == [Difference("head.num_draws", 5, 6), Difference("stages.lm.optimizer.lr", 1e-4, 2e-4)]


def test_another_part_has_other_settings_and_those_of_one_side_are_absent_on_the_other() -> None:
    found = {one.key: one for one in recipe_differences(read(BASE), read(BASE, "head=narrow", "seed=2"))}
    assert found["head.name"].as_dict() == {"a": "wide", "b": "narrow"}
    assert found["head.num_steps"] == Difference("head.num_steps", ABSENT, 10)
    assert found["head.num_steps"].as_dict() == {"b": 10}
    assert found["head.num_draws"].as_dict() == {"a": 5}
    assert "head.num_targets" not in found  # kept by the swap
    sections = [key.partition(".")[0] for key in found]
    assert sections == [
        "seed",
        *["head"] * (len(sections) - 1),
    ]  # keys of one section stand together, whichever side has them


def test_a_section_that_is_null_is_told_against_one_that_is_there() -> None:
    found = {one.key: one.as_dict() for one in recipe_differences(read(BASE), read(BASE, "stages.lm=null"))}
    assert found["stages.lm"] == {"b": None}
    assert found["stages.lm.max_steps"] == {"a": 4}


def test_parts_of_a_list_are_told_by_name() -> None:
    values = {"metrics": [{"name": "a", "size": 3}, {"name": "b"}], "names": ["x"], "none": []}
    assert dict(leaves(values)) == {
        "metrics": ["a", "b"],
        "metrics[a].size": 3,
        "names": ["x"],
        "none": [],
    }


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        (math.nan, math.nan, True),
        ([1, math.nan], [1.0, math.nan], True),
        ([1], [1, 2], False),
        ("1", 1, False),
    ],
)
def test_values_are_alike_by_meaning(a: Any, b: Any, same: bool) -> None:
    assert alike(a, b) is alike(b, a) is same
    assert (differences({"x": a}, {"x": b}) == []) is same
