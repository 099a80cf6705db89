from __future__ import annotations

from pathlib import Path

import pytest

from calmkit.interfaces import DataError
from calmkit.text.tokenizers.ids import IdsTokenizer


def test_ids_are_read_and_written() -> None:
    tokenizer = IdsTokenizer(size=300, eos=2)
    assert tokenizer.encode(["12 7\n299 ", ""]) == [[12, 7, 299], []]
    assert tokenizer.decode([12, 7, 2, 299, 2]) == "12 7 299 "
    assert tokenizer.encode([tokenizer.decode([0, 1, 3])]) == [[0, 1, 3]]
    lengths = tokenizer.token_lengths()
    assert (len(lengths), lengths[2], lengths[7], lengths[299]) == (300, 0, 2, 4)
    assert sum(lengths[i] for i in (12, 7, 299)) == len("12 7 299 ")


@pytest.mark.parametrize("word", ["Hello", "300", "-1", "1.5", "2", "\u0663"])
def test_what_is_no_id_is_refused(word: str) -> None:
    with pytest.raises(DataError, match=r"reads numbers below 300 other than 2, got .*--tokenizer FILE"):
        IdsTokenizer(size=300, eos=2).encode([f"1 {word} 3"])


def test_settings_make_it_what_it_is(tmp_path: Path) -> None:
    tokenizer = IdsTokenizer(size=300, eos=2)
    tokenizer.save(tmp_path)
    assert tokenizer.restore(tmp_path).fingerprint() == tokenizer.fingerprint()
    assert tokenizer.fingerprint() != IdsTokenizer(size=300, eos=3).fingerprint()
    assert tokenizer.fingerprint() != IdsTokenizer(size=301, eos=2).fingerprint()
    with pytest.raises(ValueError, match="ids: eos must be an id below size 3, got 3; 2 would do"):
        IdsTokenizer(size=3, eos=3)
