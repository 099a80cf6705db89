"""A sample of `benchmarks/mutations.py`, texts that Hypothesis thinks of, and every fault that was found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mutated_recipes import mutated, outcome

from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe, shipped_files
from calmkit.recipe.shapes_only import MOST, shapes_only
from calmkit.recipe.tree import DEEPEST, parse
from calmkit.registry import Manager, make_manager

SEED, SAMPLE = 20261128, 24


@pytest.fixture(scope="module")
def manager() -> Manager:
    return make_manager(guests=[])


def test_a_mutated_recipe_is_refused_in_words_or_holds(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra `hf`)")
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    found = {}
    for number in range(SAMPLE):
        mutation = mutated(random.Random(f"{SEED}/{number}"), manager)
        fault = outcome(mutation, tmp_path, manager).fault
        if fault:
            found[f"{number}: {mutation.what} of {mutation.base}"] = fault
    assert found == {}
    assert {path.name for path in tmp_path.iterdir()} <= {"mutated.yaml", "again.yaml"}


def refusal_has_a_place(text: str) -> bool:
    """True where there is nothing to refuse, too."""
    try:
        parse(text, "a.yaml")
    except RecipeError as error:
        return all(problem.mark is not None and problem.mark.line > 0 for problem in error.problems)
    return True


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=60))
def test_any_text_is_a_tree_or_is_refused(text: str) -> None:
    assert refusal_has_a_place(text)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_a_recipe_with_a_piece_replaced_is_a_tree_or_is_refused(data: st.DataObject) -> None:
    text = shipped_files()["tiny/mar"].read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    put = data.draw(st.text(alphabet="{}[]:,-#&*!|>'\"%@`? \n\t\0\x85\ufeffab1", max_size=6))
    cut = data.draw(st.integers(0, 8))
    assert refusal_has_a_place(text[:start] + put + text[start + cut :])


@pytest.mark.parametrize(
    ("text", "line", "column"), [("a: 1\nb: \x07", 2, 4), ("\x01", 1, 1), ("a: 1\n\0", 2, 1)]
)
def test_a_character_that_yaml_has_not_is_shown_where_it_stands(text: str, line: int, column: int) -> None:
    with pytest.raises(RecipeError) as told:
        parse(text, "a.yaml")
    [problem] = told.value.problems
    assert problem.code == "CK101"
    assert problem.mark is not None
    assert (problem.mark.line, problem.mark.column) == (line, column)


@pytest.mark.parametrize("left", ["[", "{a: "])
def test_nesting_without_end_is_refused_where_it_becomes_too_deep(left: str) -> None:
    right = {"[": "]", "{a: ": "}"}[left]
    parse(f"a: {left * (DEEPEST - 1)}1{right * (DEEPEST - 1)}", "a.yaml")
    with pytest.raises(RecipeError, match=f"nested more than {DEEPEST} deep"):
        parse(f"a: {left * 5000}", "a.yaml")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("backbone.depth=1000000000", f"more than {MOST:,} tensors"),
        ("autoencoder.latent_dim=9223372036854775808", "no machine holds"),
        ("backbone.hidden_dim=1000000000000000000", "no machine holds|must be|divi"),
    ],
)
def test_sizes_that_no_machine_holds_are_refused(manager: Manager, override: str, told: str) -> None:
    recipe = load_recipe("tiny/energy", [override], manager)
    with pytest.raises(RecipeError, match=told) as refused:
        validate(recipe, manager)
    assert {problem.code for problem in refused.value.problems} <= {"CK145"}


def test_random_numbers_of_a_size_that_no_machine_holds_are_refused() -> None:
    with shapes_only(), pytest.raises(ValueError, match="no machine holds"):
        torch.randn(2, 10**40)


def test_other_errors_of_building_shapes_stay_what_they_are() -> None:
    with shapes_only(), pytest.raises(RuntimeError, match="shape"):
        torch.zeros(2).reshape(3)


def test_data_that_must_be_read_to_know_a_size_are_named_with_their_place(
    tmp_path: Path, manager: Manager
) -> None:
    text = shipped_files()["paper/mar-b"].read_text(encoding="utf-8")
    (tmp_path / "a.yaml").write_text(
        text.replace(", classes: 1000", "").replace("path: imagenet", "path: nowhere")
    )
    with pytest.raises(RecipeError, match=r"error\[CK146\]: corpus 'folder': .*nowhere") as told:
        validate(load_recipe(tmp_path / "a.yaml", (), manager), manager)
    assert told.value.problems[0].mark is not None
    assert told.value.problems[0].mark.line > 0
