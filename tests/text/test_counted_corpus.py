"""A corpus that tells how far it has been read, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calmkit.text import counted_corpus
from calmkit.text.counted_corpus import CountedCorpus
from calmkit.text.prepare import prepare_data
from calmkit.text.tokenizers.bpe import BpeTokenizer
from calmkit.text.tokenizers.bytes import BytesTokenizer


def test_it_tells_documents_and_bytes_and_changes_no_document(
    list_corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_corpus, "EVERY_DOCUMENTS", 2)
    monkeypatch.setattr(counted_corpus, "EVERY_BYTES", 9)
    told, ended = list[tuple[int, int]](), list[tuple[int, int]]()
    texts = ["a", "é", "123456789", "z"]
    corpus = list_corpus(texts, ["v"])
    counted = CountedCorpus(
        corpus, lambda n, size: told.append((n, size)), lambda n, size: ended.append((n, size))
    )
    assert list(counted.documents("train")) == texts
    assert told == [(0, 0), (2, 3), (3, 12)]
    assert ended == [(4, 13)]
    assert counted.identity() == corpus.identity()


def test_readings_are_told_once_and_not_where_all_is_in_the_cache(list_corpus: Any, tmp_path: Path) -> None:
    told: list[tuple[str, int, int, int | None]] = []
    corpus = list_corpus(["ab", "cd"], ["ef"])
    prepare_data(corpus, BpeTokenizer(vocab_size=258), tmp_path, lambda *now: told.append(now))
    assert told == [
        ("tokenizer", 0, 0, None),
        ("learning", 2, 4, None),
        ("train", 0, 0, None),
        ("train", 2, 4, None),
        ("valid", 0, 0, None),
        ("valid", 1, 2, None),
    ]
    told.clear()
    prepare_data(corpus, BpeTokenizer(vocab_size=258), tmp_path, lambda *now: told.append(now))
    prepare_data(corpus, BpeTokenizer(vocab_size=258), tmp_path)
    assert told == []
    prepare_data(corpus, BytesTokenizer(), tmp_path, lambda *now: told.append(now))
    assert {now[0] for now in told} == {"train", "valid"}  # it learns from no text
