from __future__ import annotations

import json
from pathlib import Path

import pytest

from calmkit.data.cache import default_cache
from calmkit.interfaces import DataError
from calmkit.text.corpora.text import TextCorpus
from calmkit.text.overlap import Overlap
from calmkit.text.prepare import prepare_data
from calmkit.text.tokenizers.bpe import BpeTokenizer
from calmkit.text.tokenizers.bytes import BytesTokenizer


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


def write(path: Path, texts: list[str], *bad: str) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts) + "".join(bad))
    return str(path)


TEXTS = [f"Document {i}" for i in range(40)]


def test_held_out_text_that_is_trained_on_is_told(list_corpus, tmp_path):
    prepared = prepare_data(list_corpus(["a", "b", "c"], ["b", "d"]), BytesTokenizer(), tmp_path)
    assert prepared.leaked == Overlap(1, 2)
    [note] = prepared.notes
    assert note.startswith("of the held-out documents, 50 % (1 of 2) also stand in the training text, token")
    clean = prepare_data(list_corpus(["a", "b", "c"], ["d", "e"]), BytesTokenizer(), tmp_path)
    assert clean.leaked.share == 0
    assert clean.notes == ()


@pytest.mark.parametrize("tokenizer", [BytesTokenizer(), BpeTokenizer(vocab_size=260)])
def test_the_same_file_for_both_splits_is_told_with_both_settings(tmp_path, tokenizer):
    path = write(tmp_path / "a.jsonl", TEXTS)
    again = write(tmp_path / "again.jsonl", TEXTS[:20])
    for valid in (path, again):
        for _ in range(2):  # also from the cache
            [note] = prepare_data(TextCorpus(train=path, valid=valid), tokenizer, tmp_path).notes
            count = "(20 of 20)" if valid == again else "(40 of 40)"
            assert f"100 % {count} also stand in the training text (data.train={path}; held out: " in note
            assert f"data.valid={valid}" in note
            assert note.endswith("data.valid=null holds out data.valid_fraction of the training text")


def test_a_folder_that_holds_the_held_out_file_too(tmp_path):
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts" / "a.jsonl", TEXTS)
    valid = write(tmp_path / "texts" / "valid.jsonl", ["held", "out"])
    corpus = TextCorpus(train=str(tmp_path / "texts"), valid=valid)
    assert prepare_data(corpus, BytesTokenizer(), tmp_path).leaked == Overlap(2, 2)


def test_a_file_with_duplicates_that_is_split_in_two_leaks_nothing(tmp_path):
    corpus = TextCorpus(train=write(tmp_path / "a.jsonl", TEXTS * 3), valid_fraction=0.3)
    prepared = prepare_data(corpus, BytesTokenizer(), tmp_path)
    assert prepared.leaked.shared == 0
    assert prepared.leaked.documents >= 3
    assert prepared.notes == ()


def test_what_was_skipped_is_told_again_from_the_cache(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", TEXTS, "bad\n")
    told = (
        f"skipped 1 bad line of 41 in data.train={path} (2.4 %): {path}:41 (not JSON); "
        "data.on_bad=refuse stops at the first",
    )
    assert prepare_data(TextCorpus(train=path, on_bad="skip"), BytesTokenizer(), tmp_path).notes == told
    corpus = TextCorpus(train=path, on_bad="skip")
    monkeypatch.setattr(TextCorpus, "read", None)  # nothing is read again
    assert prepare_data(corpus, BytesTokenizer(), tmp_path).notes == told


def test_what_was_skipped_is_told_by_the_name_of_the_file_now(tmp_path):
    """A copy elsewhere has the same token file."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        path = write(tmp_path / folder / "a.jsonl", TEXTS, "bad\n")
        [note] = prepare_data(TextCorpus(train=path, on_bad="skip"), BytesTokenizer(), tmp_path).notes
        assert f"{path}:41 (not JSON)" in note
    assert len(list((tmp_path / "tokens").glob("train-*"))) == 1


def test_both_splits_tell_what_they_skipped(tmp_path):
    train = write(tmp_path / "a.jsonl", TEXTS, "bad\n")
    valid = write(tmp_path / "b.jsonl", ["held", "out"] * 10, "bad\n")
    corpus = TextCorpus(train=train, valid=valid, on_bad="skip")
    notes = prepare_data(corpus, BytesTokenizer(), tmp_path).notes
    assert [note.split(" (")[0] for note in notes] == [
        f"skipped 1 bad line of 41 in data.train={train}",
        f"skipped 1 bad line of 21 in data.valid={valid}",
    ]


def test_nothing_but_bad_lines_is_no_empty_split(tmp_path):
    path = write(tmp_path / "a.jsonl", [], *["bad\n"] * 9)
    with pytest.raises(DataError, match=r"9 of 9 lines are bad \(100 %\)"):
        prepare_data(TextCorpus(train=path, on_bad="skip"), BytesTokenizer(), tmp_path)
    assert not list((tmp_path / "tokens").glob("*"))
