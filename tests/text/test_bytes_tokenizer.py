from __future__ import annotations

import pytest

from calmkit.interfaces import DataError
from calmkit.text.tokenizers.bytes import BytesTokenizer


def test_bytes_by_hand():
    tokenizer = BytesTokenizer()
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (257, 256)
    assert tokenizer.encode(["aé", ""]) == [[97, 0xC3, 0xA9], []]
    assert tokenizer.decode([97, 256, 0xC3, 0xA9, 256]) == "aé"
    assert tokenizer.decode([97, 0xC3]) == "a\ufffd"
    lengths = tokenizer.token_lengths()
    assert len(lengths) == 257
    assert (lengths[0], lengths[255], lengths[256]) == (1, 1, 0)


def test_the_letters_of_end_of_text_are_letters():
    tokenizer = BytesTokenizer()
    [ids] = tokenizer.encode(["<|endoftext|>"])
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == "<|endoftext|>"


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(DataError, match=r"character 1 of the text is U\+DCFF"):
        BytesTokenizer().encode(["a\udcff"])


def test_it_is_always_ready_and_keeps_nothing(tmp_path, list_corpus):
    tokenizer = BytesTokenizer()
    assert tokenizer.prepare(list_corpus([], []), tmp_path) is tokenizer
    tokenizer.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert BytesTokenizer().restore(tmp_path).fingerprint() == tokenizer.fingerprint()
