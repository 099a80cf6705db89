from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from calmkit.data.digest import digest
from calmkit.interfaces import DataError
from calmkit.text import token_file
from calmkit.text.sized_corpus import SizedCorpus
from calmkit.text.token_file import HEADER, TokenFile
from calmkit.text.tokenizers.bpe import BpeTokenizer
from calmkit.text.tokenizers.bytes import BytesTokenizer

DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def built(list_corpus, tmp_path):
    return TokenFile.build(list_corpus(["ab", "é!", "c"], []), "train", BytesTokenizer(), tmp_path)


def test_ids_offsets_and_counts_by_hand(built):
    assert built.tokens.tolist() == [97, 98, 256, 0xC3, 0xA9, 33, 256, 99, 256]
    assert built.offsets.tolist() == [0, 3, 7, 9]
    assert built.document(1) == [0xC3, 0xA9, 33, 256]
    header = built.header
    assert (header.num_documents, header.num_tokens, header.num_characters, header.num_bytes) == (3, 9, 5, 6)
    assert (header.dtype, header.eos_id, header.vocab_size, header.split) == ("<u2", 256, 257, "train")
    # 9 ids of two bytes fill 18, up to 24; four offsets of eight
    assert built.path.stat().st_size == HEADER + 24 + 32


def test_text_comes_back(list_corpus, tmp_path):
    texts = [f"text {i} ☃\n" * (i % 7 + 1) for i in range(3000)]  # more than one block
    corpus = list_corpus(texts, ["valid"])
    tokenizer = BpeTokenizer(vocab_size=300).prepare(corpus, tmp_path)
    steps = []
    file = TokenFile.build(corpus, "train", tokenizer, tmp_path, lambda *step: steps.append(step))
    assert [tokenizer.decode(file.document(i)) for i in range(len(texts))] == texts
    assert (file.tokens[file.offsets[1:] - 1] == tokenizer.eos_id).all()
    assert [documents for documents, _ in steps] == [0, 1024, 2048, 3000]
    assert steps[-1][1] == file.header.num_bytes == sum(len(text.encode()) for text in texts)


def test_large_vocabularies_take_four_bytes(list_corpus, tmp_path):
    class Large(BytesTokenizer.__mro__[1]):  # a Tokenizer of one id
        vocab_size, eos_id = 65537, 65536

        def prepare(self, corpus, cache):
            return self

        def encode(self, texts):
            return [[65535] for _ in texts]

        def decode(self, ids):
            return ""

        def token_lengths(self):
            return [1] * 65537

        def fingerprint(self):
            return "large"

        def save(self, folder):
            pass

        def restore(self, folder):
            return self

    file = TokenFile.build(list_corpus(["a"], []), "train", Large(), tmp_path)
    assert file.tokens.tolist() == [65535, 65536]


def test_it_is_made_once_for_each_text_tokenizer_and_split(list_corpus, tmp_path):
    corpus = list_corpus(["ab"], ["cd"])
    first = TokenFile.build(corpus, "train", BytesTokenizer(), tmp_path)
    assert corpus.reads == 1
    assert TokenFile.build(corpus, "train", BytesTokenizer(), tmp_path).path == first.path
    assert corpus.reads == 1
    bpe = BpeTokenizer(vocab_size=257).prepare(corpus, tmp_path)
    others = [
        TokenFile.build(corpus, "valid", BytesTokenizer(), tmp_path),
        TokenFile.build(corpus, "train", bpe, tmp_path),
        TokenFile.build(list_corpus(["ab", "c"], ["cd"]), "train", BytesTokenizer(), tmp_path),
    ]
    assert len({file.path for file in [first, *others]}) == 4


def test_many_at_once(list_corpus, tmp_path):
    corpus = list_corpus([f"text {i}" for i in range(2000)], [])
    with ThreadPoolExecutor(4) as pool:
        files = list(
            pool.map(lambda _: TokenFile.build(corpus, "train", BytesTokenizer(), tmp_path), range(4))
        )
    assert len({file.header for file in files}) == 1
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_another_tokenizer_is_refused(built):
    assert TokenFile.open(built.path, expect="bytes-257").header == built.header
    with pytest.raises(DataError, match=rf"{built.path} is of the tokenizer bytes-257, but json-1 is in use"):
        TokenFile.open(built.path, expect="json-1")


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


DAMAGES = {
    "cut short": (lambda content: content[:-1], "bytes instead of"),
    "too long": (lambda content: content + b"\0", "bytes instead of"),
    "cut in the header": (lambda content: content[:100], "damaged|no token file"),
    "empty": (lambda content: b"", "its header is unreadable"),
    "an id": (lambda content: flip(content, HEADER + 2), "its checksum differs"),
    "an offset": (lambda content: flip(content, len(content) - 8), "its checksum differs"),
    "a count": (
        lambda content: content.replace(b'"num_tokens": 9', b'"num_tokens": 8'),
        "its header was changed",
    ),
    "a type": (lambda content: content.replace(b'"<u2"', b'"<x2"'), "its header was changed"),
    "another version": (
        lambda content: content.replace(b"tokens 1", b"tokens 9"),
        "no token file of this version",
    ),
    "no object": (lambda content: json.dumps([1]).encode().ljust(HEADER), "no token file of this version"),
    "text": (lambda content: b"hello " * 1000, "its header is unreadable"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused_with_the_cure(built, list_corpus, tmp_path, damage):
    change, message = DAMAGES[damage]
    content = built.path.read_bytes()
    del built  # unmapped before it is overwritten
    [path] = (tmp_path / "tokens").iterdir()
    path.write_bytes(change(content))
    for attempt in (
        lambda: TokenFile.open(path),
        lambda: TokenFile.build(list_corpus(["ab", "é!", "c"], []), "train", BytesTokenizer(), tmp_path),
    ):
        with pytest.raises(DataError, match=rf"{path}.*({message}).*delete {path}"):
            attempt()


def test_a_header_says_nothing_of_skipping_where_nothing_was_skipped(built):
    """So files that were written before records could be skipped are still read, and their seals hold."""
    content = json.loads(built.path.read_bytes()[:HEADER])
    assert "skipped" not in content
    bare = content | {"seal": ""}
    assert content["seal"] == digest(json.dumps(bare))
    assert TokenFile.open(built.path).header.skipped == ""


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.tokens is missing"):
        TokenFile.open(tmp_path / "gone.tokens")


def test_an_empty_split_is_refused(list_corpus, tmp_path):
    with pytest.raises(DataError, match="the valid split of ListCorpus is empty"):
        TokenFile.build(list_corpus(["a"], []), "valid", BytesTokenizer(), tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_write_leaves_nothing(list_corpus, tmp_path, monkeypatch, error):
    calls = []

    def append(file, array):
        calls.append(array)
        if len(calls) == 2:
            raise error
        file.write(array.data)

    monkeypatch.setattr(token_file, "_append", append)
    disk = isinstance(error, OSError)
    expected = (DataError, r"is full \(\d+ bytes free\)") if disk else (KeyboardInterrupt, None)
    corpus = list_corpus(["text"] * 2000, [])
    with pytest.raises(expected[0], match=expected[1]):
        TokenFile.build(corpus, "train", BytesTokenizer(), tmp_path)
    assert len(calls) == 2
    assert list((tmp_path / "tokens").iterdir()) == []


class Announced(SizedCorpus):
    """A corpus that says how large it is before it is read."""

    def __init__(self, texts: list[str], size: int) -> None:
        self.texts, self.size = texts, size

    def documents(self, split):
        yield from self.texts

    def identity(self):
        return f"announced {self.size}"

    def expected_bytes(self, split):
        return self.size


def test_too_little_room_is_known_before_the_work(tmp_path, monkeypatch):
    # 1024 documents of 9 bytes make the first block: 10 ids of two bytes each, 20480 bytes for 9216 of text
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**9, 0, 400_000))
    needed = round(20480 * 1_000_000 / 9216) + HEADER
    with pytest.raises(DataError, match=rf"has 400000 bytes free, and the train split needs about {needed};"):
        TokenFile.build(Announced(["123456789"] * 3000, 1_000_000), "train", BytesTokenizer(), tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []
    # a tenth of the text fits
    TokenFile.build(Announced(["123456789"] * 3000, 100_000), "train", BytesTokenizer(), tmp_path)


def test_the_tokens_are_mapped_and_cannot_be_written(built):
    assert isinstance(built.tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        built.tokens[0] = 1
    assert os.access(built.path, os.R_OK)
