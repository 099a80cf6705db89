from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from calmkit.data.bad_records import Skipped
from calmkit.interfaces import DataError
from calmkit.text.corpora.hub import HubCorpus
from calmkit.text.prepare import prepare_data
from calmkit.text.tokenizers.bytes import BytesTokenizer


@dataclass
class Builder:
    """Stands for a builder of `datasets`: rows from a list, an exception among them raised in its place."""

    rows: list[Any]
    cache_dir: str = "made/0.0.0/c0ffee"
    num_examples: int | None = None
    asked: int = 0

    @property
    def info(self) -> SimpleNamespace:
        known = SimpleNamespace(num_examples=self.num_examples)
        return SimpleNamespace(splits=None if self.num_examples is None else {"train": known})

    def as_streaming_dataset(self, split: str) -> Iterator[dict[str, Any]]:
        assert split in ("train", "validation")
        for row in self.rows:
            self.asked += 1
            if isinstance(row, Exception):
                raise row
            yield row


@pytest.fixture
def made_stream(monkeypatch):
    """Lets `datasets` be there, with one builder of the rows that are given."""

    def build(rows, **facts):
        builder = Builder(rows, **facts)
        module = SimpleNamespace(load_dataset_builder=lambda *names, **options: builder)
        monkeypatch.setitem(sys.modules, "datasets", module)
        return builder

    return build


def texts(number: int) -> list[dict[str, str]]:
    return [{"text": f"Text {i}."} for i in range(number)]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="datasets is not installed (extra `hf`)")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name, texts in (("train", [f"Text {i}." for i in range(40)] + [" "]), ("validation", ["Held out."])):
        content = "".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts))
        (tmp_path / f"{name}.jsonl").write_text(content)
    return {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "validation")}


def test_streams_the_splits_of_a_builder(rows):
    corpus = HubCorpus(dataset="json", data_files=rows)
    assert list(corpus.documents("train")) == [f"Text {i}." for i in range(40)]
    assert list(corpus.documents("valid")) == ["Held out."]


def test_holds_out_of_train_where_there_is_no_valid_split(rows):
    corpus = HubCorpus(dataset="json", data_files=rows, valid_split=None, valid_fraction=0.25)
    train, valid = list(corpus.documents("train")), list(corpus.documents("valid"))
    assert valid
    assert sorted([*train, *valid]) == sorted(f"Text {i}." for i in range(40))


def test_at_most_so_many(rows):
    corpus = HubCorpus(dataset="json", data_files=rows, max_documents=3)
    assert list(corpus.documents("train")) == ["Text 0.", "Text 1.", "Text 2."]
    with pytest.raises(ValueError, match="max_documents must be at least 1, got 0"):
        HubCorpus(dataset="json", max_documents=0)


def test_identity_follows_settings_and_files(rows):
    before = HubCorpus(dataset="json", data_files=rows).identity()
    assert before == HubCorpus(dataset="json", data_files=rows).identity()
    assert before != HubCorpus(dataset="json", data_files=rows, max_documents=3).identity()
    os.utime(rows["train"], (1, 1))
    assert before != HubCorpus(dataset="json", data_files=rows).identity()


def test_a_missing_column_and_a_missing_split_are_named(rows):
    with pytest.raises(DataError, match=r"row 0 of 'json' \(train\) has no text under 'body'; .* text, id"):
        list(HubCorpus(dataset="json", data_files=rows, text_key="body").documents("train"))
    with pytest.raises(DataError, match="no text under 'id'"):
        list(HubCorpus(dataset="json", data_files=rows, text_key="id").documents("train"))
    with pytest.raises(DataError, match=r"the data set 'json' cannot be had: .*'training'"):
        list(HubCorpus(dataset="json", data_files=rows, train_split="training").documents("train"))


def test_a_broken_row_is_a_data_error(rows):
    with open(rows["validation"], "a") as file:
        file.write("{broken")
    with pytest.raises(DataError, match=r"hub: the stream breaks off at row \d of 'json' \(validation\): "):
        list(HubCorpus(dataset="json", data_files=rows).documents("valid"))


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError("No module named 'datasets'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r'pip install "calmkit\[hf\]"'):
        list(HubCorpus(dataset="any").documents("train"))


def test_rows_without_a_text_are_skipped_where_the_user_says_so(rows):
    with open(rows["train"], "a") as file:
        file.write('{"text": null, "id": 41}\n{"text": "Last.", "id": 42}\n')
    with pytest.raises(DataError, match=r"row 41 of 'json' \(train\) has no text .*data\.on_bad=skip"):
        list(HubCorpus(dataset="json", data_files=rows).documents("train"))
    corpus, skipped = HubCorpus(dataset="json", data_files=rows, on_bad="skip"), Skipped()
    assert list(corpus.read("train", skipped)) == [*(f"Text {i}." for i in range(40)), "Last."]
    assert (skipped.records, skipped.kinds) == (43, {"null": 1})
    assert corpus.place("train", *skipped.places[0][:2]) == "row 41 of 'json' (train)"
    strict = HubCorpus(dataset="json", data_files=rows, on_bad="skip", max_bad=0.02)
    with pytest.raises(
        DataError, match=r"1 of 43 rows is bad \(2\.3 %\), more than data\.max_bad allows \(2 %\)"
    ):
        list(strict.documents("train"))
    assert len({c.identity() for c in (corpus, strict, HubCorpus(dataset="json", data_files=rows))}) == 3


def test_the_ceiling_holds_for_the_rows_that_were_read(rows):
    with open(rows["train"], "w") as file:
        file.write('{"text": null}\n{"text": "One."}\n' + '{"text": "More."}\n' * 40)
    corpus = HubCorpus(dataset="json", data_files=rows, on_bad="skip", max_documents=1)
    with pytest.raises(DataError, match=r"1 of 2 rows is bad \(50 %\)"):
        list(corpus.documents("train"))


def test_what_a_prepared_data_set_skipped_and_leaks_is_told(rows, tmp_path):
    with open(rows["train"], "a") as file:
        file.write('{"text": null, "id": 41}\n')
    corpus = HubCorpus(dataset="json", data_files=rows, valid_split="train", on_bad="skip")
    skipped, also, leak = prepare_data(corpus, BytesTokenizer(), tmp_path).notes
    assert skipped.startswith("skipped 1 bad row of 42 in data.train_split=train of json (2.4 %): row 41 of")
    assert also == skipped.replace("train_split", "valid_split")
    assert "100 % (40 of 40) also stand in the training text (data.train_split=train of json; held" in leak
    assert leak.endswith("data.valid_split=null holds out data.valid_fraction of the training text")


def test_a_row_that_utf8_cannot_hold_is_named(made_stream):
    """Builders that read JSON refuse it themselves; one that makes rows in Python does not."""
    made_stream([{"text": "ab\ud800"}])
    with pytest.raises(
        DataError, match=r"row 0 of 'made' \(train\): character 2 of 'text' is half a surrogate"
    ):
        list(HubCorpus(dataset="made").documents("train"))


def test_a_stream_without_a_bound_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"streaming=true .* max_documents=1000000 or max_bytes=4000000000"):
        HubCorpus(dataset="a/b", streaming=True)
    with pytest.raises(ValueError, match="hub: max_bytes must be at least 1, got 0"):
        HubCorpus(dataset="a/b", streaming=True, max_bytes=0)
    with pytest.raises(ValueError, match="'pandas' unpickles files, which runs what is in them"):
        HubCorpus(dataset="pandas", max_bytes=1)


def test_a_stream_is_asked_for_no_row_behind_its_bound(made_stream):
    builder = made_stream([*texts(3), OSError("nobody gets here")])
    corpus = HubCorpus(dataset="made", streaming=True, max_documents=3)
    assert list(corpus.documents("train")) == ["Text 0.", "Text 1.", "Text 2."]
    assert list(corpus.documents("train")) == ["Text 0.", "Text 1.", "Text 2."]  # again, the same
    assert builder.asked == 6


def test_bytes_bound_whole_documents(made_stream):
    made_stream([{"text": "caf\u00e9"}, {"text": " "}, {"text": "four"}, {"text": "x"}])

    def read(size: int) -> list[str]:
        return list(HubCorpus(dataset="made", streaming=True, max_bytes=size).documents("train"))

    assert (read(5), read(8), read(9), read(10)) == (
        ["caf\u00e9"],
        ["caf\u00e9"],
        ["caf\u00e9", "four"],
        ["caf\u00e9", "four", "x"],
    )
    with pytest.raises(
        DataError, match=r"data\.max_bytes is 4, and the first document has 5 bytes; give at least these"
    ):
        read(4)


def test_a_stream_that_breaks_off_names_the_row_and_keeps_nothing(made_stream, tmp_path):
    builder = made_stream([*texts(1500), ConnectionError("connection reset by peer")])
    corpus = HubCorpus(dataset="made", streaming=True, max_documents=1600)
    with pytest.raises(
        DataError, match=r"breaks off at row 1500 of 'made' \(train\): connection reset by peer\. Nothing"
    ):
        prepare_data(corpus, BytesTokenizer(), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    builder.rows[-1:] = texts(100)  # the network is back
    assert prepare_data(corpus, BytesTokenizer(), tmp_path).train.header.num_documents == 1600


def test_a_stream_that_ends_before_its_own_count_is_no_whole_split(made_stream):
    made_stream(texts(3), num_examples=4)
    with pytest.raises(DataError, match=r"breaks off at row 3 of 'made' \(train\): it has 4 by its own"):
        list(HubCorpus(dataset="made").documents("train"))
    assert len(list(HubCorpus(dataset="made", max_documents=3).documents("train"))) == 3
    made_stream(texts(4), num_examples=4)
    assert len(list(HubCorpus(dataset="made", max_documents=9).documents("train"))) == 4


def test_a_bounded_stream_is_read_once_and_then_lies_in_the_cache(made_stream, tmp_path):
    builder = made_stream(texts(40))
    settings = {"dataset": "made", "streaming": True, "max_documents": 20, "valid_split": None}
    first = prepare_data(HubCorpus(**settings, valid_fraction=0.3), BytesTokenizer(), tmp_path)
    assert builder.asked == 40  # 20 for each split, none for these bytes
    again = prepare_data(HubCorpus(**settings, valid_fraction=0.3), BytesTokenizer(), tmp_path)
    assert builder.asked == 40
    assert again.fingerprint == first.fingerprint
    assert first.train.header.num_documents + first.valid.header.num_documents == 20
    bounds = ({}, {"max_documents": 21}, {"max_bytes": 98}, {"max_bytes": 99})
    assert len({HubCorpus(**settings | bound).identity() for bound in bounds}) == 4
    builder.cache_dir = "made/0.0.0/another-commit"
    assert prepare_data(HubCorpus(**settings), BytesTokenizer(), tmp_path).fingerprint != first.fingerprint


def test_a_whole_commit_is_known_without_a_network(monkeypatch):
    def nobody(*names, **options):
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset_builder=nobody))
    commit = "0123456789abcdef0123456789abcdef01234567"
    of_commit = HubCorpus(dataset="a/b", revision=commit).identity()
    assert of_commit == HubCorpus(dataset="a/b", revision=commit).identity()
    assert of_commit != HubCorpus(dataset="a/b", revision=commit[::-1]).identity()
    assert of_commit != HubCorpus(dataset="a/b", revision=commit, config="de").identity()
    for moving in ({"revision": "main"}, {}, {"revision": commit, "data_files": {"train": "/here.jsonl"}}):
        with pytest.raises(DataError, match="cannot be had: no network"):
            HubCorpus(dataset="a/b", **moving).identity()


def test_parquet_streams_and_no_script_of_a_data_set_runs(rows, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra `parquet`)")
    import pyarrow

    parquet.write_table(pyarrow.table({"body": [f"Row {i}." for i in range(9)]}), tmp_path / "a.parquet")
    files = {"train": str(tmp_path / "a.parquet")}
    corpus = HubCorpus(dataset="parquet", data_files=files, text_key="body", streaming=True, max_documents=7)
    assert list(corpus.documents("train")) == [f"Row {i}." for i in range(7)]
    script = tmp_path / "scripted" / "scripted.py"
    script.parent.mkdir()
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(DataError, match="cannot be had"):
        HubCorpus(dataset=str(script.parent), max_documents=1).identity()
    assert not (tmp_path / "ran").exists()
