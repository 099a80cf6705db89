"""The kind of data of a recipe: the one that its corpus names, if somebody brings it and the class fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from calmkit.interfaces import Corpus
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.registry import Part, make_manager


class Named(Corpus):
    """Names a kind, and answers nothing that a kind asks."""

    data_kind = "tunes"

    def identity(self) -> str:
        return "nothing"


def refused(kind: str, parent: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a recipe is told whose corpus, in line 3, names a kind."""
    monkeypatch.setattr(Named, "data_kind", kind)
    manager = make_manager(guests=[])
    manager.parts["corpora"]["mine"] = Part("corpora", "mine", Named, "tests")
    Path("mine.yaml").write_text(f"extends: {parent}\nname: mine\ndata: {{name: mine}}\n")
    with pytest.raises(RecipeError) as caught:
        validate(load_recipe("mine.yaml", (), manager), manager)
    return str(caught.value)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_kind_of_data_that_nobody_brings_is_named_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert refused("tunes", "tiny/givt_causal", monkeypatch) == (
        "error[CK120]: corpus 'mine' holds data of the kind 'tunes', which nobody brings; there are: images, "
        "text\n  --> mine.yaml:3:8  (data.name)\n"
        "  help: install the plugin that has it (hook calmkit_data_kinds)"
    )


@pytest.mark.parametrize(
    ("kind", "parent", "wanted"),
    [
        ("images", "tiny/givt_causal", "calmkit.images.corpus.ImageCorpus"),
        ("text", "tiny/energy", "calmkit.interfaces.corpus.TextCorpus"),
    ],
)
def test_a_corpus_that_only_names_a_kind_is_refused(
    kind: str, parent: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(kind, parent, monkeypatch) == (
        f"error[CK141]: corpus 'mine' names the kind '{kind}', and its class is no {wanted.split('.')[-1]}\n"
        "  --> mine.yaml:3:8  (data.name)\n"
        f"  help: derive {__name__}.Named from {wanted}, or name another kind in its data_kind"
    )
