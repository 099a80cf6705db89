"""`calmkit diff` of recipes and runs: settings by meaning, what runs were made with, and their results."""

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
    Path("same.yaml").write_text("extends: base.yaml\nname: other\ntokenizer: plain\nseed: 1\n")
    a_run("one", torch="2.14.1", loss=3.5, seconds=2.0)
    a_run("two", torch="2.15.0", loss=3.25, seconds=2.0)


def a_run(name: str, *, torch: str, loss: float, seconds: float) -> None:
    run = Path(name)
    (run / "model").mkdir(parents=True)
    (run / "resolved.yaml").write_text("name: base\n" + BASE)
    (run / "lock.yaml").write_text(
        f'seed: 1\ndata: "f00d"\nversions:\n  torch: "{torch}"\nplugins: {{}}\ncommand:\n  - "{name}"\n'
    )
    (run / "evaluation.json").write_text(json.dumps({"loss": loss, "protocol": {"name": "p"}}))
    (run / "model" / "config.json").write_text(json.dumps({"lm_seconds": seconds}))


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["diff", *words])


def test_recipes_that_mean_the_same_are_said_to() -> None:
    result = run("base.yaml", "same.yaml")
    assert result.exit_code == 0
    assert result.stdout == (
        "of\tkey\tbase.yaml\tsame.yaml\tdifference\n"
        "recipe\tname\tbase\tother\t\n"
        "recipe\tdescription\ta base\t\t\n\n"
        "recipe: the same\nmade with, results: not compared, base.yaml and same.yaml is no run\n"
    ).replace("base.yaml and same.yaml is no run", "base.yaml and same.yaml are no runs")


def test_runs_are_compared_in_what_they_were_made_with_and_what_came_out() -> None:
    result = run("one", "two")
    assert result.exit_code == 0
    assert result.stdout == (
        "of\tkey\tone\ttwo\tdifference\n"
        "made with\tversions.torch\t2.14.1\t2.15.0\t\n"
        "results\tloss\t3.5\t3.25\t-0.25\n\n"
        "recipe: the same\nmade with: 1 differs\nresults: 1 differs\n"
    )
    same = run("one", "one")
    assert same.stdout == "recipe: the same\nmade with: the same\nresults: the same\n"


def test_a_recipe_and_a_run_are_compared_in_their_settings() -> None:
    Path("child.yaml").write_text(
        "extends: base.yaml\nname: base\ndescription: a base\nhead: {num_draws: 6}\n"
    )
    result = run("one", "child.yaml")
    assert result.stdout == (
        "of\tkey\tone\tchild.yaml\tdifference\n"
        "recipe\thead.num_draws\t5\t6\t+1\n\n"
        "recipe: 1 setting differs\nmade with, results: not compared, child.yaml is no run\n"
    )


def test_json_holds_all_sides_unrounded() -> None:
    told = json.loads(run("one", "two", "--json").stdout)
    assert told == {
        "a": "one",
        "b": "two",
        "same_recipe": True,
        "recipe": {},
        "made_with": {"versions.torch": {"a": "2.14.1", "b": "2.15.0"}},
        "results": {"loss": {"a": 3.5, "b": 3.25}},
    }
    told = json.loads(run("base.yaml", "same.yaml", "--json").stdout)
    assert told["same_recipe"] is True
    assert told["recipe"] == {"name": {"a": "base", "b": "other"}, "description": {"a": "a base", "b": ""}}


def test_a_damaged_run_is_named() -> None:
    Path("two/evaluation.json").write_text("{")
    result = run("one", "two")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: two/evaluation.json is damaged")
    assert run("one", "nothing.yaml").exit_code == 2
