from __future__ import annotations

import builtins
import json
import os
import sys

import pytest

from calmkit.data.bad_records import Skipped
from calmkit.interfaces import DataError
from calmkit.text.corpora.hub import HubCorpus
from calmkit.text.prepare import prepare_data
from calmkit.text.tokenizers.bytes import BytesTokenizer


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
    with pytest.raises(DataError, match="the data set 'json' cannot be had"):
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
    assert skipped.startswith("skipped 1 bad row of 42 in data.train_split=train of json (2.3 %): row 41 of")
    assert also == skipped.replace("train_split", "valid_split")
    assert "100 % (40 of 40) also stand in the training text (data.train_split=train of json; held" in leak
    assert leak.endswith("data.valid_split=null holds out data.valid_fraction of the training text")


def test_a_row_that_utf8_cannot_hold_is_named():
    """Builders that read JSON refuse it themselves; one that makes rows in Python does not."""
    corpus = HubCorpus(dataset="made")
    corpus._call = lambda function, **options: [{"text": "ab\ud800"}]
    with pytest.raises(
        DataError, match=r"row 0 of 'made' \(train\): character 2 of 'text' is half a surrogate"
    ):
        list(corpus.documents("train"))
