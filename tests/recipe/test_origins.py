"""Each value of a recipe is told where it came from: file and line, override, or default."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_parts import BASE, fake_manager

from calmkit.cli.main import cli
from calmkit.recipe.load import load_recipe
from calmkit.recipe.origins import origins
from calmkit.registry import make_manager

CHILD = """\
extends: base.yaml
head: {num_draws: 6}
sampler: direct
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calmkit.registry.make_manager", fake_manager)
    Path("base.yaml").write_text(BASE)
    Path("child.yaml").write_text(CHILD)


def test_each_value_has_its_place() -> None:
    recipe = load_recipe("child.yaml", ["head.exponent=0.5", "stages.lm.max_steps=9"], fake_manager())
    places = {one.key: (one.value, one.place) for one in origins(recipe)}
    assert places["head.num_draws"] == (6, "child.yaml:2")
    assert places["head.num_targets"] == (7, "base.yaml:10")
    assert places["head.name"] == ("wide", "base.yaml:8")
    assert places["head.exponent"] == (0.5, "override head.exponent=0.5")
    assert places["head.gated"] == (False, "default")
    assert places["sampler.name"] == ("direct", "child.yaml:3")
    assert places["stages.lm.max_steps"] == (9, "override stages.lm.max_steps=9")
    assert places["stages.lm.optimizer.lr"] == (1e-4, "base.yaml:14")
    assert places["stages.lm.optimizer.clip"] == (1.0, "default")
    assert places["embedder.name"] == ("tokens", "default")
    assert places["name"] == ("child", "the name of child.yaml")
    assert len(BASE.splitlines()[13].split("lr")) == 2  # line 14, counted by hand


def test_a_swapped_part_keeps_the_place_of_what_it_keeps() -> None:
    places = {
        one.key: one.place for one in origins(load_recipe("base.yaml", ["head=narrow"], fake_manager()))
    }
    assert places["head.name"] == "override head=narrow"
    assert places["head.num_targets"] == "base.yaml:10"
    assert places["head.num_steps"] == "default"


def test_settings_of_a_part_in_a_list_have_their_own_places() -> None:
    Path("parts.yaml").write_text(
        "extends: tiny/givt_causal\ntransforms:\n  - name: patchify\n    patch: 2\n  - normalise\n"
    )
    recipe = load_recipe("parts.yaml", (), make_manager(guests=[]))
    places = {one.key: one.place for one in origins(recipe)}
    assert places["transforms"] == "parts.yaml:2"
    assert places["transforms[patchify].patch"] == "parts.yaml:4"
    stated = [key for key in places if key.startswith("transforms[normalise]")]
    assert stated
    assert {places[key] for key in stated} == {"default"}


def test_show_source_is_a_table_and_of_recipes_alone() -> None:
    result = CliRunner().invoke(cli, ["show", "child.yaml", "--source", "seed=3"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "key\tvalue\tfrom"
    assert "seed\t3\toverride seed=3" in lines
    assert "head.width\tnull\tdefault" in lines
    part = CliRunner().invoke(cli, ["show", "heads/wide", "--source"])
    assert (part.exit_code, part.stdout) == (2, "")
    assert "--source is of a recipe, and 'heads/wide' is none" in part.stderr
