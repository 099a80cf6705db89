from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calmkit.interfaces import DataError, KnownSource
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.recipe.parts import build_corpus
from calmkit.registry import make_manager
from calmkit.text.corpora.markov import MarkovCorpus
from calmkit.text.token_file import TokenFile
from calmkit.text.tokenizers.bytes import BytesTokenizer

SMALL: dict[str, Any] = {"train_tokens": 1000, "valid_tokens": 100, "document_length": 31}


def test_documents_are_of_one_length_and_of_the_chosen_letters() -> None:
    corpus = MarkovCorpus(alphabet=3, **SMALL)
    train, valid = list(corpus.documents("train")), list(corpus.documents("valid"))
    assert (len(train), len(valid)) == (32, 4)  # 1000 / 32 = 31.25 and 100 / 32 = 3.125, rounded up
    assert {len(text) for text in train + valid} == {31}
    assert set("".join(train)) == set("abc")
    assert not set(train) & set(valid)
    assert list(corpus.documents("train")) == train
    assert corpus.expected_bytes("train") == sum(map(len, train))


def test_every_setting_makes_another_text_and_another_identity() -> None:
    settings = [
        {},
        {"order": 1},
        {"alphabet": 9},
        {"concentration": 0.3},
        {"seed": 1},
        {"train_tokens": 2000},
        {"valid_tokens": 200},
        {"document_length": 30},
    ]
    corpora = [MarkovCorpus(**SMALL | setting) for setting in settings]
    assert len({corpus.identity() for corpus in corpora}) == len(settings)
    texts = {(*corpus.documents("train"), "|", *corpus.documents("valid")) for corpus in corpora}
    assert len(texts) == len(settings)
    assert MarkovCorpus(**SMALL).identity() == corpora[0].identity()


def test_blocks_are_drawn_on_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.text.corpora.markov.BLOCK_LETTERS", 31 * 10)
    documents = list(MarkovCorpus(**SMALL).documents("train"))
    assert len(documents) == len(set(documents)) == 32


def test_a_letter_is_a_token(tmp_path: Path) -> None:
    corpus = MarkovCorpus(**SMALL)
    file = TokenFile.build(corpus, "valid", BytesTokenizer(), tmp_path)
    assert file.header.num_tokens == 4 * 32
    assert bytes(file.document(0)[:-1]).decode() == next(corpus.documents("valid"))


def test_it_is_a_part_that_knows_its_truth() -> None:
    corpus = make_manager(guests=[]).build("corpora", "markov", {"order": 1})
    assert isinstance(corpus, KnownSource)
    assert corpus.best_brier(1, 2) == corpus.source.best_brier(1, 2)
    assert corpus.entropy(0) == corpus.source.entropy(0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"alphabet": 53}, "alphabet must be at most 52, got 53; 52 would do"),
        ({"order": 3, "alphabet": 1000}, "alphabet must be at most 52"),
        ({"document_length": 0}, "document_length must be at least 1, got 0; 1 would do"),
        ({"train_tokens": 0}, "train_tokens must be at least 1"),
        ({"seed": -1}, "seed must be at least 0, got -1; 0 would do"),
        ({"concentration": -1.0}, "concentration must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MarkovCorpus(**setting)


@pytest.mark.parametrize(
    ("overrides", "place", "words"),
    [
        (["data.alphabet=1"], "data.alphabet", "alphabet must be at least 2, got 1; 2 would do"),
        (["data.order=-1"], "data.order", "order must be at least 0"),
        (["data.order=1", "data.concentration=1e-9", "data.seed=1"], "data.concentration", "several parts"),
    ],
)
def test_a_recipe_is_refused_at_the_setting_before_data_is_made(
    overrides: list[str], place: str, words: str
) -> None:
    manager = make_manager(guests=[])
    with pytest.raises(RecipeError, match=words) as caught:
        build_corpus(load_recipe("tiny/markov", overrides, manager), manager)
    assert place in str(caught.value)


def test_a_large_table_without_a_long_run_is_a_data_error_when_text_is_asked_for() -> None:
    corpus = MarkovCorpus(order=12, alphabet=2, concentration=0.2, seed=0, **SMALL)  # 4,096 contexts
    for ask in (corpus.identity, lambda: next(corpus.documents("train"))):
        with pytest.raises(DataError, match=r"corpus can't be made: .* would do"):
            ask()
