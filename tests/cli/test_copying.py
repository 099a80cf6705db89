"""`calmkit cp`: a shipped recipe's text as it is, or a short child of it, and nothing is lost on the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calmkit.cli.main import cli
from calmkit.recipe.load import load_recipe
from calmkit.recipe.shipped import shipped_files, shipped_recipes
from calmkit.registry import make_manager


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_a_copy_has_every_comment_and_means_the_same() -> None:
    manager = make_manager(guests=[])
    for number, (name, file) in enumerate(shipped_recipes().items()):
        result = run("cp", name, f"{number}.yaml")
        assert (result.exit_code, result.stdout) == (0, f"{number}.yaml: a copy of {name}\n")
        assert Path(f"{number}.yaml").read_bytes() == file.read_bytes()
        assert load_recipe(f"{number}.yaml", (), manager) == load_recipe(name, (), manager)


def test_a_study_is_copied_too() -> None:
    assert run("cp", "studies/quickstart", "mine.yaml").exit_code == 0
    assert Path("mine.yaml").read_bytes() == shipped_files()["studies/quickstart"].read_bytes()
    refused = run("cp", "studies/quickstart", "child.yaml", "--extends")
    assert (refused.exit_code, Path("child.yaml").exists()) == (2, False)
    assert "error[CK100]: 'studies/quickstart' is a study, which no recipe extends" in refused.stderr


def test_a_child_is_short_and_means_its_parent_under_a_name_of_its_own() -> None:
    manager = make_manager(guests=[])
    result = run("cp", "tiny/flow", "mine.yaml", "--extends")
    assert (result.exit_code, result.stdout) == (0, "mine.yaml: extends tiny/flow\n")
    text = Path("mine.yaml").read_text()
    assert text.splitlines()[-1] == "extends: tiny/flow"
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["extends: tiny/flow"]
    assert text.startswith("# calmkit train mine.yaml\n")
    child, parent = (load_recipe(name, (), manager) for name in ("mine.yaml", "tiny/flow"))
    assert child.name == "mine"
    assert dataclasses.replace(child, name=parent.name, description=parent.description) == parent


@pytest.mark.parametrize("words", [[], ["--extends"]])
def test_what_is_there_is_not_written_over_without_force(words: list[str]) -> None:
    Path("mine.yaml").write_text("mine")
    refused = run("cp", "tiny/energy", "mine.yaml", *words)
    assert refused.exit_code == 2
    assert "'mine.yaml' is there; --force writes over it." in refused.stderr
    assert Path("mine.yaml").read_text() == "mine"
    assert run("cp", "tiny/energy", "mine.yaml", "--force", *words).exit_code == 0
    assert Path("mine.yaml").read_text() != "mine"


def test_into_a_folder_it_goes_under_its_own_name() -> None:
    Path("there").mkdir()
    assert run("cp", "tiny/energy", "there").exit_code == 0
    assert Path("there/energy.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tiny/enrgy", "a.yaml"], "error[CK100]: no shipped recipe 'tiny/enrgy'"),
        (["tiny/energy", "a.txt"], "a recipe is read from a file that ends in .yaml, and 'a.txt' does not."),
        (["tiny/energy", "nowhere/a.yaml"], "'nowhere/a.yaml' can't be written: No such file or directory."),
    ],
)
def test_what_can_not_be_copied_is_named(words: list[str], told: str) -> None:
    result = run("cp", *words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert list(Path().iterdir()) == []
