from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from calmkit.data.bad_records import Skipped
from calmkit.interfaces import DataError
from calmkit.text.corpora.text import TextCorpus


def lines(*texts: str, key: str = "text") -> bytes:
    return b"".join(json.dumps({key: text}).encode() + b"\n" for text in texts)


def read(path: Path | str | list[str], **options) -> list[str]:
    """The documents of a path, as training text."""
    train = path if isinstance(path, list) else str(path)
    return list(TextCorpus(train=train, valid=train, **options).documents("train"))


ENGLISH = ["One é.", "Two\nlines.", "Three 世界."]
PACK = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".ZST": lambda content: b"".join(map(zstandard.ZstdCompressor().compress, (content[:9], content[9:]))),
}


@pytest.mark.parametrize("suffix", PACK)
def test_every_compression_of_both_formats(tmp_path, suffix):
    (tmp_path / f"a.jsonl{suffix}").write_bytes(PACK[suffix](lines(*ENGLISH)))
    (tmp_path / f"b.txt{suffix}").write_bytes(PACK[suffix]("é\r\nb \n".encode()))
    assert read(tmp_path / f"a.jsonl{suffix}") == ENGLISH
    assert read(tmp_path / f"b.txt{suffix}") == ["é\r\nb \n"]  # as it stands
    corpus = TextCorpus(train=str(tmp_path / f"b.txt{suffix}"), valid=str(tmp_path))
    size = (tmp_path / f"b.txt{suffix}").stat().st_size
    assert corpus.expected_bytes("train") == (4 if suffix else 1) * size


def test_long_lines_and_lines_over_blocks(tmp_path):
    texts = ["a" * 700_000, "b" * 2_500_000, "c", "d" * 400_000]  # blocks are of 1 MiB
    (tmp_path / "a.jsonl").write_bytes(lines(*texts).rstrip())
    assert read(tmp_path / "a.jsonl") == texts


def test_blank_documents_blank_lines_and_marks_are_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines("a") + b"\n  \r\n" + lines(" \n", "b"))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfmarked")
    (tmp_path / "c.txt").write_bytes(b"\n")
    assert read(tmp_path) == ["a", "b", "marked"]


def test_paths_folders_globs_and_lists(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt", "deep/er/c.txt", ".hidden/d.txt", "e[1].txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "notes.md").write_text("unknown")
    assert read(tmp_path) == ["a.txt", "b.txt", "deep/er/c.txt", "e[1].txt"]
    assert read(tmp_path / "?.txt") == ["a.txt", "b.txt"]
    assert read(tmp_path / "**" / "*.txt") == ["a.txt", "b.txt", "deep/er/c.txt", "e[1].txt"]
    assert read(tmp_path / "e[1].txt") == ["e[1].txt"]  # a name, though it looks like a glob
    monkeypatch.chdir(tmp_path)
    assert read(["deep", "b.txt", "?.txt"]) == ["deep/er/c.txt", "b.txt", "a.txt"]  # every file once
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert read([str(tmp_path / "a.txt"), "a.txt", "deep/../a.txt", "link.txt"]) == ["a.txt"]


def test_held_out_documents(tmp_path):
    texts = [f"Document {i}. " * 5 for i in range(400)]
    (tmp_path / "a.jsonl").write_bytes(lines(*texts, *texts[:40]))  # some twice
    corpus = TextCorpus(train=str(tmp_path), valid_fraction=0.1)
    train, valid = list(corpus.documents("train")), list(corpus.documents("valid"))
    assert sorted([*train, *valid]) == sorted([*texts, *texts[:40]])
    assert not set(train) & set(valid)
    assert 0.09 < sum(map(len, valid)) / sum(map(len, texts + texts[:40])) <= 0.1
    assert corpus.expected_bytes("valid") == round((tmp_path / "a.jsonl").stat().st_size * 0.1)
    # other files, another order, the same split: the text alone decides
    (tmp_path / "other").mkdir()
    for number, text in enumerate([*texts, *texts[:40]]):
        (tmp_path / "other" / f"{(number * 7) % 440:03}.txt").write_text(text)
    other = TextCorpus(train=str(tmp_path / "other"), valid_fraction=0.1)
    assert sorted(other.documents("valid")) == sorted(valid)


def test_one_document_cannot_be_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("all in one")
    with pytest.raises(DataError, match=r"one document only.*set data\.valid"):
        list(TextCorpus(train=str(tmp_path)).documents("train"))


def test_identity_follows_content_not_place(tmp_path):
    for folder, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.jsonl").write_bytes(lines(text))
    a, b, c = (str(tmp_path / folder) for folder in "abc")
    assert TextCorpus(train=a, valid=c).identity() == TextCorpus(train=b, valid=c).identity()
    others = [
        TextCorpus(train=a, valid=c),
        TextCorpus(train=c, valid=a),
        TextCorpus(train=a, valid=a),
        TextCorpus(train=[a, c], valid=c),
        TextCorpus(train=a),
        TextCorpus(train=a, valid_fraction=0.1),
        TextCorpus(train=a, valid=c, text_key="other"),
        TextCorpus(train=a, valid=c, on_bad="skip"),
        TextCorpus(train=a, valid=c, on_bad="skip", max_bad=0.5),
    ]
    assert len({corpus.identity() for corpus in others}) == len(others)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.txt", r"data\.train: .*none\.txt does not exist"),
        ("*.jsonl.zst", r"data\.train: .*\*\.jsonl\.zst matches no file"),
        ("empty", r"the folder .*empty holds no text; known files are \.txt, \.txt\.gz"),
        ("paper.pdf", r"paper\.pdf has an unknown suffix; known are"),
    ],
)
def test_missing_files_are_named(tmp_path, pattern, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "paper.pdf").write_text("")
    with pytest.raises(DataError, match=message):
        read(tmp_path / pattern)


def test_no_path_at_all():
    with pytest.raises(DataError, match=r"data\.train names no file"):
        read([])


def test_the_setting_that_is_wrong_is_the_one_named(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    corpus = TextCorpus(train=str(tmp_path / "a.txt"), valid=str(tmp_path / "gone.txt"))
    with pytest.raises(DataError, match=r"data\.valid: .*gone\.txt does not exist"):
        list(corpus.documents("valid"))


@pytest.mark.parametrize("suffix", PACK)
def test_text_that_is_not_utf8(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(
        PACK[suffix](b"caf\xc3\xa9 caf\xe9 \n")
    )  # é is two bytes, then one byte of Latin-1 at offset 9
    with pytest.raises(DataError, match=r"a\.txt\S* is not UTF-8: byte 0xe9 at offset 9\. .*iconv"):
        read(path)


def test_json_lines_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.jsonl"
    first = lines("one")
    path.write_bytes(first + b'{"text": "\xff"}\n')
    with pytest.raises(DataError, match=rf"a\.jsonl:2 is not UTF-8: byte 0xff at offset {len(first) + 10}"):
        read(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', r"a\.jsonl:2 is not JSON \(.*\); every line must be an object"),
        ("[" * 100_000, r"a\.jsonl:2 is not JSON"),
        (
            '{"body": "a", "id": 1}',
            r"a\.jsonl:2 has no key 'text': only \['body', 'id'\]; set data\.text_key",
        ),
        ('["a"]', r"a\.jsonl:2 has no key 'text': it is a list"),
        ('{"text": 3}', r"a\.jsonl:2: 'text' is int, not text"),
        ('{"text": "ab\\ud800"}', r"a\.jsonl:2: character 2 of 'text' is half a surrogate pair"),
    ],
)
def test_wrong_json_lines_are_named(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines("one") + line.encode() + b"\n")
    with pytest.raises(DataError, match=message):
        read(path)


def test_another_key(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines("a", key="body"))
    assert read(tmp_path, text_key="body") == ["a"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda content: content[:-6], lambda content: b"no such file" + content])
def test_damaged_files_are_named(tmp_path, suffix, damage):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(damage(PACK[suffix](b"some text " * 100)))
    with pytest.raises(DataError, match=rf"a\.txt{suffix} is damaged"):
        read(path)


BAD_LINES = {
    '{"text": "ab\\ud800"}': "half a surrogate pair",
    '{"txt": "a"}': "no key 'text'",
    '["a"]': "no key 'text'",
    '{"text": null}': "null",
    '{"text": 3}': "int instead of text",
    "not json": "not JSON",
    "\udcff": "not UTF-8",  # written as the byte 0xff
}


def with_bad_lines(*good: str) -> bytes:
    bad = "".join(f"{line}\n" for line in BAD_LINES).encode("utf-8", "surrogateescape")
    return lines(good[0]) + bad + lines(*good[1:])


@pytest.mark.parametrize("suffix", PACK)
def test_bad_lines_are_skipped_where_the_user_says_so(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACK[suffix](with_bad_lines("one", "two")))
    corpus, skipped = TextCorpus(train=str(path), valid=str(path), on_bad="skip", max_bad=0.8), Skipped()
    assert list(corpus.read("train", skipped)) == list(corpus.documents("train")) == ["one", "two"]
    assert (skipped.records, skipped.bad) == (9, 7)
    assert [corpus.place("train", file, number) for file, number, _ in skipped.places] == [
        f"{path}:{number}" for number in (2, 3, 4, 5, 6)
    ]
    assert skipped.kinds == dict(Counter(BAD_LINES.values()))


@pytest.mark.parametrize("suffix", PACK)
def test_a_text_that_is_not_utf8_is_one_bad_file(tmp_path, suffix):
    (tmp_path / f"a.txt{suffix}").write_bytes(PACK[suffix](b"caf\xe9"))
    (tmp_path / "b.txt").write_text("one")
    corpus, skipped = TextCorpus(train=str(tmp_path), on_bad="skip", max_bad=0.5, valid="b.txt"), Skipped()
    assert list(corpus.read("train", skipped)) == ["one"]
    assert corpus.place("train", *skipped.places[0][:2]) == str(tmp_path / f"a.txt{suffix}")
    assert corpus.unit("train") == "files"


@pytest.mark.parametrize("damage", [b"no such file", b""])
def test_a_file_that_cannot_be_unpacked_is_never_skipped(tmp_path, damage):
    """Nobody knows how much of it is lost."""
    (tmp_path / "a.jsonl").write_bytes(lines(*"abcdefgh"))
    (tmp_path / "b.jsonl.gz").write_bytes(damage + gzip.compress(lines("i"))[:-4])
    with pytest.raises(DataError, match=r"b\.jsonl\.gz is damaged"):
        read(tmp_path, on_bad="skip", max_bad=1.0)


def test_too_many_bad_lines_are_refused_with_count_ceiling_and_places(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(*["good"] * 19) + b"bad\n")
    assert read(path, on_bad="skip") == ["good"] * 19  # one in twenty is the default
    path.write_bytes(lines(*["good"] * 18) + b"bad\n")
    with pytest.raises(DataError) as told:
        read(path, on_bad="skip")
    assert "1 of 19 lines is bad (5.3 %), more than data.max_bad allows (5 %)" in str(told.value)
    assert f"{path}:19 (not JSON)" in str(told.value)
    assert "raise data.max_bad" in str(told.value)


def test_bad_lines_of_a_file_that_is_split_in_two(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(with_bad_lines(*(f"Document {i}. " for i in range(100))))
    corpus = TextCorpus(train=str(path), valid_fraction=0.1, on_bad="skip", max_bad=0.1)
    found = {split: Skipped() for split in ("train", "valid")}
    texts = [text for split, skipped in found.items() for text in corpus.read(split, skipped)]
    assert sorted(texts) == sorted(f"Document {i}. " for i in range(100))
    assert found["train"] == found["valid"]  # each reading meets all of them
    assert corpus.source("train") == corpus.source("valid") == f"data.train={path}"


def test_a_refusal_says_that_bad_lines_can_be_skipped(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines("one") + b"bad\n")
    with pytest.raises(DataError, match=r"a\.jsonl:2 is not JSON .*; data\.on_bad=skip leaves"):
        read(tmp_path)
