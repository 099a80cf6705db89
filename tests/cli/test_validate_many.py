"""`calmkit validate` of several files: each is looked at, each problem told, and one exit code for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_parts import BASE, fake_manager

from calmkit.cli.main import cli


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calmkit.registry.make_manager", fake_manager)
    Path("base.yaml").write_text(BASE)
    Path("wrong.yaml").write_text("extends: base.yaml\nhead: {num_drawz: 3}\nseed: many\n")


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["validate", *words])


def test_one_wrong_file_does_not_hide_the_others() -> None:
    result = run("wrong.yaml", "base.yaml", "nowhere.yaml")
    assert result.exit_code == 2
    assert [line for line in result.stdout.splitlines() if line[0] != " "] == ["base: ok"]
    assert "wrong.yaml: wrong\nerror[CK132]: seed" in result.stderr
    assert "error[CK130]: unknown key 'num_drawz'" in result.stderr
    assert "nowhere.yaml: wrong\nerror[CK100]: no file 'nowhere.yaml'\n" in result.stderr


def test_overrides_are_laid_over_each_of_several_good_ones() -> None:
    Path("child.yaml").write_text("extends: base.yaml\n")
    result = run("base.yaml", "child.yaml", "backbone.hidden_dim=9")
    assert result.exit_code == 0
    counts = [line for line in result.stdout.splitlines() if "backbone" in line]
    assert counts == ["  backbone: 180 parameters"] * 2  # 2 layers of 9 x 9 weights and 9 biases


def test_json_is_one_document_with_code_place_and_message_of_each_problem() -> None:
    result = run("base.yaml", "wrong.yaml", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["ok"] is False
    good, bad = told["recipes"]
    assert good == {
        "recipe": "base.yaml",
        "ok": True,
        "name": "base",
        "parameters": {"autoencoder": 30, "embedder": 40, "backbone": 144, "head": 103 - 49, "all": 268},
    }
    assert (bad["recipe"], bad["ok"]) == ("wrong.yaml", False)
    problems = {one["code"]: one for one in bad["problems"]}
    assert set(problems) == {"CK130", "CK132"}
    assert problems["CK132"] == {
        "code": "CK132",
        "message": "seed must be a whole number, got 'many'",
        "place": "wrong.yaml",
        "line": 3,
        "column": 7,
        "key": "seed",
        "help": None,
    }
    assert problems["CK130"]["help"].startswith("did you mean 'num_draws'?")


def test_json_of_a_single_recipe_keeps_its_form_and_an_override_has_no_line() -> None:
    good = run("base.yaml", "--json")
    assert (good.exit_code, json.loads(good.stdout)["ok"]) == (0, True)
    bad = run("base.yaml", "--json", "seed=x")
    assert bad.exit_code == 2
    (problem,) = json.loads(bad.stdout)["recipes"][0]["problems"]
    assert (problem["place"], problem["line"]) == ("command line (seed=x)", None)


def test_a_file_whose_name_has_an_equals_sign_is_a_file() -> None:
    Path("a=b.yaml").write_text("extends: base.yaml\n")
    result = run("a=b.yaml")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "a=b: ok")


def test_overrides_alone_are_no_recipe() -> None:
    result = run("seed=3")
    assert result.exit_code == 2
    assert "no recipe among seed=3" in result.stderr
