"""What a recipe may be called: its runs lie in runs/<name>, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_parts import BASE, fake_manager
from hypothesis import example, given
from hypothesis import strategies as st

from calmkit.recipe.errors import RecipeError
from calmkit.recipe.limits import NAME
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe


def named(name: str, folder: Path) -> Recipe:
    """The base recipe under a name of its own."""
    (folder / "mine.yaml").write_text(f"name: '{name}'\n{BASE}")
    return load_recipe(folder / "mine.yaml", [], fake_manager())


@pytest.mark.parametrize(
    "name", ["a", "tiny/energy", "paper/calm-l-k1", "two words", "v1.2", "a..b", "..a", "é"]
)
def test_a_name_inside_the_folder_of_runs(name: str, tmp_path: Path) -> None:
    assert named(name, tmp_path).name == name


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "../x",
        "a/..",
        "a/../../x",
        "./a",
        "a/./b",
        "/etc",
        "a//b",
        "a/",
        "",
        "..\\x",
        "a\\..\\..\\x",
    ],
)
def test_a_name_outside_it_is_refused_where_it_stands(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        named(name, tmp_path)
    assert str(caught.value) == (
        f"error[CK133]: name must be like tiny/energy, a path inside the folder runs, got {name}\n"
        f"  --> {tmp_path / 'mine.yaml'}:1:7  (name)"
    )


def test_an_override_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(BASE)
    with pytest.raises(RecipeError, match=r"CK133.*got \.\./x\n  --> command line \(name=\.\./x\)"):
        load_recipe(tmp_path / "mine.yaml", ["name=../x"], fake_manager())


@given(st.text("a./\\", max_size=8))
@example("a/...")
def test_what_is_let_through_stays_inside(name: str) -> None:
    """A walk down the path's parts never goes up, stands still or starts elsewhere."""
    if re.fullmatch(NAME.pattern, name):
        inside = Path("/runs")
        assert inside in (inside / name).parents
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "\\" not in name
    else:
        assert {"", ".", ".."} & set(name.split("/")) or "\\" in name
