"""Keys of `evaluation` that a kind of data does not read: not shown, and refused where they say something."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from calmkit.cli.main import cli
from calmkit.interfaces import EVALUATION_OF_A_KIND
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe, to_yaml
from calmkit.recipe.schema import Evaluation
from calmkit.registry import make_manager
from calmkit.training.run import Run

READ = {
    "tiny/mar": {"sample_rows"},
    "tiny/energy": {"draws", "sample_prompt", "sample_tokens"},
}
UNREAD = [(name, key) for name, read in READ.items() for key in EVALUATION_OF_A_KIND if key not in read]


def refused(recipe: str | Path, *words: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, words, make_manager(guests=[]))
    return str(caught.value)


def test_they_are_keys_of_an_evaluation() -> None:
    assert set(EVALUATION_OF_A_KIND) < {field.name for field in fields(Evaluation)}


@pytest.mark.parametrize("name", READ)
def test_what_the_kind_does_not_read_is_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: make_manager(guests=[]))
    shown = yaml.safe_load(CliRunner().invoke(cli, ["show", name]).stdout)["evaluation"]
    assert set(shown) & set(EVALUATION_OF_A_KIND) == READ[name]


@pytest.mark.parametrize(("name", "key"), UNREAD)
def test_what_the_kind_does_not_read_is_refused_where_it_says_something(name: str, key: str) -> None:
    default = getattr(Evaluation(), key)
    other = "Once" if isinstance(default, str) else default + 3
    assert f"[CK130]: data '{'digits' if name == 'tiny/mar' else 'stdlib'}' are" in refused(
        name, f"evaluation.{key}={other}"
    )
    taken = load_recipe(name, [f"evaluation.{key}={default or repr(default)}"], make_manager(guests=[]))
    assert getattr(taken.evaluation, key) == default


def test_the_refusal_names_the_place_and_the_cure(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text('calmkit: 1\nextends: tiny/mar\nevaluation: {sample_prompt: "Once"}\n')
    assert refused(mine, "evaluation.draws=8") == (
        "error[CK130]: data 'digits' are images, whose evaluation reads no draws\n"
        "  --> command line (evaluation.draws=8)\n"
        "  help: leave it out, or write evaluation.draws=4, which says nothing\n"
        "error[CK130]: data 'digits' are images, whose evaluation reads no sample_prompt\n"
        f"  --> {mine}:3:14  (evaluation.sample_prompt)\n"
        "  help: leave it out, or write evaluation.sample_prompt='', which says nothing"
    )


def test_a_run_that_wrote_such_a_key_before_is_read_as_it_is(tmp_path: Path) -> None:
    manager = make_manager(guests=[])
    text = to_yaml(load_recipe("tiny/mar", (), manager))
    (tmp_path / "resolved.yaml").write_text(text.replace("draws: 4", "draws: 2"))
    assert Run(tmp_path).recipe(manager).evaluation.draws == 2
    with pytest.raises(RecipeError, match="reads no draws"):
        Run(tmp_path).recipe(manager, ["evaluation.draws=8"])
