"""Nothing that a file holds is run: pickles under every name, YAML's tags, resolvers, names that climb."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from made_runs import made_run

from calmkit.cli.main import cli
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.studies.schema import read_study
from calmkit.training.checkpoints import load_weights
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run
from calmkit.training.snapshots import read_snapshot


class Bomb:
    """Its pickle writes a file where it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("it-ran",)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "it-ran").exists()


def test_a_pickle_runs_where_it_is_unpickled(tmp_path: Path) -> None:
    """Else every test below would pass of itself."""
    pickle.loads(pickle.dumps(Bomb()))
    (tmp_path / "it-ran").rmdir()


def bomb(path: Path, *, of_torch: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if of_torch:
        torch.save(Bomb(), path)
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    return path


@pytest.mark.parametrize("of_torch", [False, True])
def test_weights_that_are_a_pickle(tmp_path: Path, of_torch: bool) -> None:
    path = bomb(tmp_path / "model.safetensors", of_torch=of_torch)
    with pytest.raises(RunFailed, match="Cannot read the weights"):
        load_weights(path, torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "name", ["resolved.yaml", "lock.yaml", "evaluation.json", "model/config.json", "metrics.csv"]
)
def test_files_of_a_run_that_are_pickles(tmp_path: Path, name: str) -> None:
    made_run(tmp_path / "run")
    bomb(tmp_path / "run" / name)
    for words in (["show", "run"], ["compare", "run"], ["diff", "run", "run"]):
        result = CliRunner().invoke(cli, words)
        assert "Traceback" not in result.output
        assert "internal error" not in result.output, result.output
    assert Run(tmp_path / "run").lock is not None


def test_a_checkpoint_that_is_a_pickle(tmp_path: Path) -> None:
    bomb(tmp_path / "step-00000001.safetensors")
    with pytest.raises(RunFailed, match="can't be read"):
        read_snapshot(bomb(tmp_path / "step-00000001.json"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "config.json"])
def test_a_checkpoint_of_other_code_that_is_a_pickle(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "autoencoder"}')
    bomb(tmp_path / "other" / name, of_torch=name.endswith(".bin"))
    result = CliRunner().invoke(cli, ["import", "official", "other", "--out", "run"])
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert "internal error" not in result.output, result.output


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [it-ran]",
        "!!python/object/new:os.mkdir [it-ran]",
        "!!python/name:os.mkdir",
        "!!python/module:antigravity",
        "!!python/tuple [1]",
    ],
)
def test_yaml_that_would_build_an_object(tmp_path: Path, value: str) -> None:
    (tmp_path / "evil.yaml").write_text(f"extends: tiny/energy\ndescription: {value}\n")
    with pytest.raises(RecipeError) as told:
        load_recipe(tmp_path / "evil.yaml")
    assert told.value.problems[0].code == "CK102"
    made_run(tmp_path / "run")
    (tmp_path / "run" / "lock.yaml").write_text(f"data: {value}\n")
    assert Run(tmp_path / "run").lock == {}


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "${seed}", "{{ 7 * 7 }}", "${oc.create:{a: 1}}", "$(id)"]
)
def test_a_text_that_others_would_compute_with_is_a_text(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.yaml").write_text(f"extends: tiny/energy\ndescription: '{value}'\n")
    recipe = load_recipe(tmp_path / "a.yaml")
    assert recipe.description == value
    result = CliRunner().invoke(cli, ["show", "a.yaml"])
    assert value in result.stdout


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../../x", "..", ".", "a//b", "a\\b", "", "a/./b"])
def test_names_that_would_climb_out_of_their_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.yaml").write_text(f"extends: tiny/energy\nname: '{name}'\n")
    with pytest.raises(RecipeError, match=r"name must be like"):
        load_recipe(tmp_path / "a.yaml")
    study = f"calmkit_study: 1\nname: '{name}'\nbase: tiny/energy\ngrid: {{head.num_draws: [4, 8]}}\n"
    with pytest.raises(RecipeError, match=r"name must be like"):
        read_study(study, tmp_path / "study.yaml", make_manager(guests=[]))
