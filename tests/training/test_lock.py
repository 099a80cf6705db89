"""What a lock says of a run: all that it was made with, in texts that YAML gives back as they were."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fake_parts import BASE, fake_manager

import calmkit
from calmkit.recipe.load import load_recipe
from calmkit.training import lock as lock_module
from calmkit.training.lock import code_state, git_state, surroundings, write_lock
from calmkit.training.run import Run


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    return load_recipe("base.yaml", ["seed=7"], fake_manager())


def a_plugin(name: str, version: str) -> Any:
    return SimpleNamespace(name=name, dist=SimpleNamespace(name=name, version=version))


def test_a_lock_names_all_that_a_run_came_from(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/where/calmkit", "train", "base.yaml", "seed=7"])
    write_lock(Run(Path()), recipe, "12e4567", ["two documents are empty"])
    told = yaml.safe_load(Path("lock.yaml").read_text())
    assert list(told) == [
        "seed", "data", "warnings", "git", "code", "python", "system", "hardware", "threads", "versions",
        "plugins", "command",
    ]  # fmt: skip
    assert (told["seed"], told["data"]) == (7, "12e4567")
    assert told["warnings"] == ["two documents are empty"]
    assert told["command"] == ["calmkit", "train", "base.yaml", "seed=7"]
    assert {name: told[name] for name in surroundings()} == surroundings()


def test_a_version_that_looks_like_a_number_stays_a_text(
    recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "_packages", lambda: ["calmkit"])
    monkeypatch.setattr(lock_module, "_version", lambda name: "2.10")
    write_lock(Run(Path()), recipe, "f00d")
    assert Run(Path()).lock["versions"] == {"calmkit": "2.10"}


def test_installed_plugins_are_named_with_their_versions(
    recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [a_plugin("z-head", "1.20"), a_plugin("a-head", "3"), SimpleNamespace(name="lost", dist=None)]
    asked = []

    def entry_points(group: str) -> list[Any]:
        asked.append(group)
        return points

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    write_lock(Run(Path()), recipe, "f00d")
    assert Run(Path()).lock["plugins"] == {"a-head": "3", "z-head": "1.20"}
    assert asked == ["calmkit"]
    points.clear()
    write_lock(Run(Path()), recipe, "f00d")
    assert Run(Path()).lock["plugins"] == {}


def repository(folder: Path) -> str:
    """A folder with one commit in it, and that commit."""
    (folder / "__init__.py").write_text("")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout[:12]


def test_the_commit_of_a_folder_and_its_changes(tmp_path: Path) -> None:
    commit = repository(tmp_path)
    assert git_state(tmp_path) == commit
    (tmp_path / "__init__.py").write_text("x = 1\n")
    assert git_state(tmp_path) == f"{commit}+changes"


def test_code_from_a_checkout_has_its_commit_and_installed_code_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository(tmp_path)
    monkeypatch.setattr(calmkit, "__file__", str(tmp_path / "__init__.py"))
    assert code_state() == commit
    inside = tmp_path / "environment" / "calmkit"  # an environment in a repository is none of its code
    inside.mkdir(parents=True)
    (inside / "__init__.py").write_text("")
    monkeypatch.setattr(calmkit, "__file__", str(inside / "__init__.py"))
    assert code_state() == "installed"
