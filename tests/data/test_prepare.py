from __future__ import annotations

from pathlib import Path

import pytest

from calmkit.data.prepare import default_cache, prepare_data
from calmkit.data.tokenizers.bpe import BpeTokenizer
from calmkit.data.tokenizers.bytes import BytesTokenizer
from calmkit.interfaces import DataError


def test_both_splits_with_a_ready_tokenizer(list_corpus, tmp_path):
    corpus = list_corpus(["abab", "ab"], ["ba"])
    prepared = prepare_data(corpus, BpeTokenizer(vocab_size=258), tmp_path)
    assert [prepared.tokenizer.decode(prepared.train.document(i)) for i in (0, 1)] == ["abab", "ab"]
    assert prepared.tokenizer.decode(prepared.valid.document(0)) == "ba"
    assert prepared.train.header.num_tokens == 2 + 1 + 2  # "ab" is a token
    reads = corpus.reads
    again = prepare_data(corpus, BpeTokenizer(vocab_size=258), tmp_path)
    assert corpus.reads == reads  # nothing is read twice
    assert again.fingerprint == prepared.fingerprint


def test_the_fingerprint_is_of_text_and_tokenizer(list_corpus, tmp_path):
    corpora = [list_corpus(["ab"], ["c"]), list_corpus(["abc"], ["c"]), list_corpus(["ab"], ["d"])]
    found = {prepare_data(corpus, BytesTokenizer(), tmp_path).fingerprint for corpus in corpora}
    found.add(prepare_data(corpora[0], BpeTokenizer(vocab_size=257), tmp_path).fingerprint)
    assert len(found) == 4


@pytest.mark.parametrize(("train", "valid", "empty"), [([], ["a"], "train"), (["a"], [], "valid")])
def test_an_empty_split_is_named(list_corpus, tmp_path, train, valid, empty):
    with pytest.raises(DataError, match=f"the {empty} split of ListCorpus is empty"):
        prepare_data(list_corpus(train, valid), BytesTokenizer(), tmp_path)


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CALMKIT_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("CALMKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "calmkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "calmkit"


def test_a_cache_that_cannot_be_written_is_named(list_corpus, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match=rf"{tmp_path}/taken/tokens/\S+ cannot be written"):
        prepare_data(list_corpus(["a"], ["b"]), BytesTokenizer(), tmp_path / "taken")
