from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from calmkit.interfaces import DataError
from calmkit.text.tokenizers.bpe import BpeTokenizer, train_bpe

TEXTS = [f"the lower the newer the wider {i} <|endoftext|>" for i in range(50)] + ["naïve 世界 🙂\n\tx"]


@pytest.fixture
def trained(tmp_path, list_corpus):
    return BpeTokenizer(vocab_size=300).prepare(list_corpus(TEXTS, []), tmp_path)


def test_the_first_merges_by_hand(list_corpus, tmp_path):
    # "ab" 3 times, then "abc" twice: ids 0 end-of-text, 1..256 the bytes, 257 "ab", 258 "abc"
    tokenizer = BpeTokenizer(vocab_size=259).prepare(list_corpus(["ababc", "abc"], []), tmp_path)
    [ids] = tokenizer.encode(["abab"])
    assert ids == [257, 257]
    assert tokenizer.encode(["abc"]) == [[258]]
    assert tokenizer.token_lengths()[257:] == [2, 3]


def test_any_text_comes_back(trained):
    texts = [*TEXTS, "", " ", "\x00\u2028 unseen ☃", "line\r\n", "<|endoftext|>", "x<|endoftext|>y"]
    batch = trained.encode(texts)
    assert [trained.decode(ids) for ids in batch] == texts
    lengths = trained.token_lengths()
    for text, ids in zip(texts, batch, strict=True):
        assert trained.eos_id not in ids
        assert sum(lengths[token] for token in ids) == len(text.encode())
    assert lengths[trained.eos_id] == 0
    assert trained.decode([*batch[0], trained.eos_id]) == texts[0]


def test_broken_utf8_gives_the_replacement_character(trained):
    [ids] = trained.encode(["🙂"])
    assert len(ids) > 1
    assert trained.decode(ids[:-1]) == "\ufffd"


def test_it_shortens_text_and_keeps_to_its_size(trained):
    assert trained.vocab_size <= 300
    [ids] = trained.encode([TEXTS[0]])
    assert len(ids) < len(TEXTS[0]) / 2
    assert max(ids) < trained.vocab_size


def test_a_small_corpus_gives_fewer_tokens(list_corpus, tmp_path):
    tokenizer = BpeTokenizer(vocab_size=4096).prepare(list_corpus(["aa"], []), tmp_path)
    assert tokenizer.vocab_size == 258  # one merge is all there is


def test_training_is_the_same_in_every_process():
    script = (
        "import hashlib; from calmkit.text.tokenizers.bpe import train_bpe; "
        "texts = [f'word{i % 37} other{i % 91} ties' for i in range(500)]; "
        "print(hashlib.sha256(train_bpe(iter(texts), 400).encode()).hexdigest())"
    )
    texts = [f"word{i % 37} other{i % 91} ties" for i in range(500)]
    here = hashlib.sha256(train_bpe(iter(texts), 400).encode()).hexdigest()
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert elsewhere.strip() == here


def test_it_learns_from_train_and_once(list_corpus, tmp_path):
    corpus = list_corpus(TEXTS, ["zzzzzzzz"] * 100)
    first = BpeTokenizer(vocab_size=300).prepare(corpus, tmp_path)
    assert corpus.reads == 1
    again = BpeTokenizer(vocab_size=300).prepare(corpus, tmp_path)
    assert corpus.reads == 1
    assert again.fingerprint() == first.fingerprint()
    [ids] = first.encode(["zzzzzzzz"])
    assert len(ids) == 8  # validation text taught it nothing
    other = BpeTokenizer(vocab_size=301).prepare(corpus, tmp_path)
    assert corpus.reads == 2
    assert other.fingerprint() != first.fingerprint()


def test_a_damaged_cache_is_named(list_corpus, tmp_path):
    corpus = list_corpus(TEXTS, [])
    BpeTokenizer(vocab_size=300).prepare(corpus, tmp_path)
    [path] = (tmp_path / "tokenizers").glob("*.json")
    whole = path.read_text()
    at = whole.index('"merges"') + 60  # a token file that is whole for all that its form says
    for damaged in (whole[:-100], whole[:at] + whole[at:].replace("t", "s", 1)):
        path.write_text(damaged)
        with pytest.raises(DataError, match=rf"damaged; delete {path}"):
            BpeTokenizer(vocab_size=300).prepare(corpus, tmp_path)
    path.write_text(whole)
    BpeTokenizer(vocab_size=300).prepare(corpus, tmp_path)


def test_an_empty_corpus_is_refused_and_nothing_kept(list_corpus, tmp_path):
    with pytest.raises(DataError, match="train split of the corpus is empty"):
        BpeTokenizer().prepare(list_corpus([], ["valid"]), tmp_path)
    assert not (tmp_path / "tokenizers").exists()


def test_impossible_sizes_and_early_use_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"bpe: vocab_size must be at least 257 .* got 256"):
        BpeTokenizer(vocab_size=256)
    with pytest.raises(RuntimeError, match="not trained yet"):
        BpeTokenizer().encode(["a"])


def test_save_and_restore(trained, tmp_path):
    trained.save(tmp_path / "run")
    restored = BpeTokenizer(vocab_size=300).restore(tmp_path / "run")
    assert restored.fingerprint() == trained.fingerprint()
    assert restored.encode(TEXTS) == trained.encode(TEXTS)
    assert (restored.vocab_size, restored.eos_id) == (trained.vocab_size, trained.eos_id)


def test_the_text_of_a_tokenizer_holds_every_byte():
    assert train_bpe(iter(["a"]), 257).count("\n") > 256
