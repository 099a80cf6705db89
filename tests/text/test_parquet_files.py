from __future__ import annotations

import sys

import pytest

from calmkit.data.bad_records import BadRecord, Skipped
from calmkit.interfaces import DataError
from calmkit.text.corpora.text import TextCorpus
from calmkit.text.parquet_files import BATCH_ROWS, parquet_texts

TEXTS = ["One é.", "Two\nlines.", " ", "Three 世界."]


@pytest.fixture
def write(tmp_path):
    """Writes a table of these columns, and gives its path."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra `parquet`)")
    import pyarrow
    import pyarrow.parquet

    def make(name: str, columns: dict, **options) -> str:
        types = {key: c for key, c in columns.items() if isinstance(c, pyarrow.Array)}
        table = pyarrow.table({key: types.get(key, columns[key]) for key in columns})
        pyarrow.parquet.write_table(table, tmp_path / name, **options)
        return str(tmp_path / name)

    return make


def read(path: str, **options) -> list[str]:
    return list(TextCorpus(train=path, valid=path, **options).documents("train"))


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_every_row_is_a_document(write, compression):
    path = write("a.PARQUET", {"id": range(4), "text": TEXTS, "more": TEXTS}, compression=compression)
    assert read(path) == ["One é.", "Two\nlines.", "Three 世界."]
    assert read(path, text_key="more") == read(path)


def test_rows_over_batches_and_groups(write):
    texts = [f"Text {i}" for i in range(3 * BATCH_ROWS + 7)]
    assert read(write("a.parquet", {"text": texts}, row_group_size=1500)) == texts


def test_only_the_column_of_the_text_is_read(write, monkeypatch):
    import pyarrow.parquet

    asked = []
    batches = pyarrow.parquet.ParquetFile.iter_batches

    def iter_batches(self, size, columns):
        asked.append(columns)
        return batches(self, size, columns=columns)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", iter_batches)
    assert read(write("a.parquet", {"text": ["a"], "image": [b"large"]})) == ["a"]
    assert asked == [["text"]]


def test_texts_of_every_kind_of_column(write):
    import pyarrow as pa

    for number, kind in enumerate((pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))):
        assert read(write(f"{number}.parquet", {"text": pa.array(["a", "b", "a"]).cast(kind)})) == [
            "a",
            "b",
            "a",
        ]


def test_folders_hold_parquet_beside_the_others(write, tmp_path):
    write("b.parquet", {"text": ["b"]})
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "c.txt").write_text("c")
    corpus = TextCorpus(train=str(tmp_path), valid=str(tmp_path / "*.parquet"))
    assert list(corpus.documents("train")) == ["a", "b", "c"]
    assert list(corpus.documents("valid")) == ["b"]
    assert (corpus.unit("train"), corpus.unit("valid")) == ("records", "rows")
    assert corpus.expected_bytes("valid") == 4 * (tmp_path / "b.parquet").stat().st_size
    before = corpus.identity()
    write("b.parquet", {"text": ["other"]})
    assert TextCorpus(train=str(tmp_path), valid=str(tmp_path / "*.parquet")).identity() != before


def test_rows_without_a_text_are_refused_or_skipped(write):
    path = write("a.parquet", {"text": ["one", None, "two", None]})
    with pytest.raises(DataError, match=r"a\.parquet:2: 'text' is null, not text; .*; data\.on_bad=skip"):
        read(path)
    corpus, skipped = TextCorpus(train=path, valid=path, on_bad="skip", max_bad=0.5), Skipped()
    assert list(corpus.read("train", skipped)) == ["one", "two"]
    assert skipped.note("it", corpus.unit("train"), lambda *place: corpus.place("train", *place)) == (
        f"skipped 2 bad rows of 4 in it (50 %): {path}:2 (null), {path}:4 (null); "
        "data.on_bad=refuse stops at the first"
    )


def test_a_column_without_any_value(write):
    with pytest.raises(DataError, match=r"2 of 2 rows are bad \(100 %\)"):
        read(write("a.parquet", {"text": [None, None]}), on_bad="skip")


def test_bytes_that_are_no_text_under_a_column_that_says_so(write, tmp_path):
    import pyarrow as pa

    offsets = pa.array([0, 2, 3], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ok\xff")])
    path = write("a.parquet", {"text": broken})
    first, second = parquet_texts(tmp_path / "a.parquet", "text")
    assert first == "ok"
    assert isinstance(second, BadRecord)
    assert (second.number, second.kind) == (2, "not UTF-8")
    assert read(path, on_bad="skip", max_bad=0.5) == ["ok"]


@pytest.mark.parametrize("on_bad", ["refuse", "skip"])  # a wrong column is no bad row
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"], "id": [1]}, r"has no column 'text', of body, id; set data\.text_key"),
        ({"text": [1], "id": [1]}, r"the column 'text' is int64, not text; .*, of text, id"),
        ({"text": [["a"]]}, r"the column 'text' is list<.*>, not text"),
    ],
)
def test_a_column_that_is_none_is_named(write, columns, message, on_bad):
    with pytest.raises(DataError, match=rf"a\.parquet.*{message}"):
        read(write("a.parquet", columns), on_bad=on_bad, max_bad=1.0)


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: b"no table", lambda content: content[:-9]]
)
def test_a_damaged_file_is_named(write, tmp_path, damage):
    path = write("a.parquet", {"text": ["a"] * 100})
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(damage(content))
    with pytest.raises(DataError, match=r"a\.parquet is damaged or no Parquet file"):
        read(path, on_bad="skip")


def test_without_the_library_it_is_said_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    (tmp_path / "a.parquet").write_bytes(b"")
    (tmp_path / "b.txt").write_text("b")
    corpus = TextCorpus(train=str(tmp_path), valid=str(tmp_path / "b.txt"))
    for attempt in (corpus.expected_bytes, lambda split: list(corpus.documents(split))):
        with pytest.raises(
            DataError, match=r"data\.train: .*a\.parquet needs .*pip install 'calmkit\[parquet\]'"
        ):
            attempt("train")
    assert list(corpus.documents("valid")) == ["b"]  # which needs no library


def test_a_table_is_not_compressed_once_more(tmp_path):
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.parquet\.gz has an unknown suffix; known are .*\.parquet"):
        read(str(tmp_path / "a.parquet.gz"))
