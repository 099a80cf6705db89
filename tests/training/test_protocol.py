"""A protocol has a name that tells it apart, and every setting of an evaluation is part of it or aside."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from calmkit.images.words import WORDS as IMAGES
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Evaluation, Recipe
from calmkit.registry import make_manager
from calmkit.text.words import WORDS as TEXT
from calmkit.training.protocol import (
    ASIDE,
    SCORED,
    Protocol,
    evaluation_file,
    own_protocol,
    protocol_of,
    recorded,
)
from calmkit.training.run import Run

OWN = Protocol("f00d", 256, 64, 4, "direct()", "32-true", "cpu", length="tokens")
OTHER = {
    "data": "beef", "sequence_length": 128, "max_rows": 8, "draws": 2, "sampler": "vote()",
    "precision": "bf16-mixed", "device": "cuda",
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("tiny/energy", (), make_manager())


def test_every_setting_of_an_evaluation_is_part_of_its_protocol_or_aside() -> None:
    """A new key of the section must say whether it changes what a number means."""
    assert {field.name for field in fields(Evaluation)} == {"max_rows", "draws", *ASIDE}


@pytest.mark.parametrize("field", OTHER)
def test_every_field_changes_the_name_and_the_file(field: str) -> None:
    changed = replace(OWN, **{field: OTHER[field]})
    assert changed.name != OWN.name
    assert (changed.scores != OWN.scores) == (field in SCORED)
    assert changed.differing(OWN) == [field]
    assert evaluation_file(changed, OWN) == f"evaluation-{changed.name}.json"
    assert evaluation_file(OWN, OWN) == "evaluation.json"


def test_a_name_can_be_read() -> None:
    assert OWN.name.startswith("rows64-tokens256-draws4-")
    assert OWN.told() == "at most 64 rows of 256 tokens, 4 draws a position, data f00d"


def test_what_is_not_known_contradicts_nothing() -> None:
    assert replace(OWN, draws=None).agrees(OWN)
    assert Protocol().agrees(OWN)
    assert not replace(OWN, draws=None, max_rows=8).agrees(OWN)


def test_it_comes_back_from_a_file() -> None:
    assert recorded({"protocol": OWN.as_dict()}) == OWN
    assert recorded({"brier_lm": 1.0}) is None
    assert recorded({"protocol": "damaged"}) is None


def test_the_own_one_is_that_of_the_recipe_on_the_text_of_the_lock(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "lock.yaml").write_text('data: "f00d"\n')
    own = own_protocol(Run(tmp_path), recipe, recipe, TEXT)
    assert (own.data, own.max_rows, own.draws, own.sequence_length) == ("f00d", 256, 4, 256)
    assert own.sampler == "vote(candidates=50, temperature=0.5)"
    assert (own.precision, own.device) == (None, None)  # the machine decides, and it was not measured yet
    assert protocol_of(recipe, "f00d", "cuda", TEXT).agrees(own)
    assert not protocol_of(recipe, "beef", "cpu", TEXT).agrees(own)
    (tmp_path / "evaluation.json").write_text('{"protocol": {"precision": "64-true", "device": "cpu"}}')
    assert not protocol_of(recipe, "f00d", "cpu", TEXT).agrees(
        own_protocol(Run(tmp_path), recipe, recipe, TEXT)
    )


def test_where_no_lock_knows_the_text_other_data_are_another_text(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "lock.yaml").write_text('data: "none: imported"\n')
    elsewhere = load_recipe("tiny/energy", ("data=text", "data.train=a.txt"), make_manager())
    own = own_protocol(Run(tmp_path), recipe, elsewhere, TEXT)
    assert not protocol_of(elsewhere, "f00d", "cpu", TEXT).agrees(own)
    assert protocol_of(recipe, "f00d", "cpu", TEXT).agrees(own_protocol(Run(tmp_path), recipe, recipe, TEXT))


def test_scores_that_need_no_draws_are_alike_whatever_their_number() -> None:
    manager = make_manager()
    few, many = (load_recipe("tiny/markov", [f"evaluation.draws={n}"], manager) for n in (2, 4))
    a, b = (protocol_of(one, "f00d", "cpu", IMAGES) for one in (few, many))
    assert (a.name, a.draws) == (b.name, None)
    assert a.known(("data", "max_rows", "draws"))
    assert evaluation_file(a, b) == "evaluation.json"
    assert a.told() == "at most 256 rows, data f00d"
    assert a.scores.startswith("rows256-")
    assert "draws" not in a.scores
    one, other = (protocol_of(one, "f00d", "cpu", TEXT) for one in (few, many))
    assert one.differing(other) == ["draws"]


def test_draws_that_an_older_evaluation_names_without_need_are_none() -> None:
    """Evaluations of images said `draws` before a kind could say that nothing is drawn by it."""
    older = recorded({"protocol": Protocol("f00d", None, 64, 2).as_dict()})
    assert older is not None
    assert older.drawn
    now = older.of_kind(IMAGES)
    assert now.agrees(Protocol("f00d", None, 64, 4).of_kind(IMAGES))
    assert recorded({"protocol": now.as_dict()}) == now
    again = recorded({"protocol": now.as_dict()})
    assert again is not None
    assert not again.drawn
    assert Protocol().filled(again).told() == now.told()
