"""Counting models are scored where the model is, on all rows, by one process, and counted once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import SHORT, autoencoder_of, rows_of, small_run, workshop

from calmkit.data.cache import default_cache
from calmkit.registry import make_manager
from calmkit.text.datamodule import TextDataModule
from calmkit.text.metrics.brier import BrierLM
from calmkit.text.metrics.ngram import NGramModel, NotCounted
from calmkit.text.ngrams import ngram_scores
from calmkit.text.prepare import PreparedData, prepare_data
from calmkit.training.run import Run


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with workshop(tmp_path_factory.mktemp("ngrams")) as folder:
        yield small_run(folder, "run", *SHORT[:2])


def test_they_see_all_rows_whatever_the_process_sees(run: Run, tmp_path: Path) -> None:
    model = run.load().model
    alone = ngram_scores(_prepared(run), _data(run), model, tmp_path / "one")
    shared = _data(run)
    shared.trainer = type("Trainer", (), {"global_rank": 0, "world_size": 2})()  # type: ignore[assignment]
    place = shared.trainer
    assert ngram_scores(_prepared(run), shared, model, tmp_path / "two") == alone
    assert shared.trainer is place  # nobody reached into it
    assert alone["trigram_brier_lm"] > alone["unigram_brier_lm"]  # the text has words


def test_they_wait_for_no_other_process(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only rank 0 counts; a metric that synchronised would wait for the others for ever."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("waits for the other processes")

    monkeypatch.setattr(torch.distributed, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "barrier", never)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group=None: 0)
    metric = BrierLM()
    metric.update(torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    with pytest.raises(AssertionError, match="waits"):
        metric.compute()  # so the test would notice
    assert ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path)


def test_the_same_text_and_positions_are_counted_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path)
    counts = _watch_counting(monkeypatch)
    assert ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path) == first
    assert counts == []
    other = ngram_scores(_prepared(run), _data(run, rows=3), run.load().model, tmp_path)  # other positions
    assert counts == [1, 2, 3]
    assert other != first


SHORT_OF_ORDERS = '{"unigram_brier_lm": 1.0, "bigram_brier_lm": 2.0}'
NO_NUMBER = '{"unigram_brier_lm": 1.0, "bigram_brier_lm": NaN, "trigram_brier_lm": 3.0}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "{}",
        '{"other": 1.0}',
        '{"unigram_brier_lm": "much"}',
        SHORT_OF_ORDERS,
        NO_NUMBER,
        "a digit",
    ],
)
def test_a_damaged_file_is_counted_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    first = ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path)
    (path,) = (tmp_path / "ngrams").glob("*.json")
    whole = path.read_text()
    path.write_text(whole.replace("1", "2", 1) if content == "a digit" and "1" in whole else content)
    counts = _watch_counting(monkeypatch)
    assert ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path) == first
    assert counts == [1, 2, 3]


def test_an_order_too_large_to_count_is_told_from_a_file_cut_short(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = NGramModel.count

    def not_the_third(ids: torch.Tensor, vocab_size: int, order: int) -> NGramModel:
        if order == 3:
            raise NotCounted("too many kinds")
        return count(ids, vocab_size, order)

    monkeypatch.setattr(NGramModel, "count", not_the_third)
    first = ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path)
    assert set(first) == {"unigram_brier_lm", "bigram_brier_lm"}
    (path,) = (tmp_path / "ngrams").glob("*.json")
    kept = json.loads(path.read_text())
    assert kept == {**first, "trigram_brier_lm": None, "seal": kept["seal"]}
    counts = _watch_counting(monkeypatch)
    assert ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path) == first
    assert counts == []  # it is known, and known to be no more


def test_a_cache_that_cannot_be_written_loses_no_score(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    scores = ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path / "file")
    assert scores == ngram_scores(_prepared(run), _data(run), run.load().model, tmp_path / "folder")


def _watch_counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The orders that are counted from now on."""
    counts: list[int] = []
    count = NGramModel.count

    def watched(ids: torch.Tensor, vocab_size: int, order: int) -> NGramModel:
        counts.append(order)
        return count(ids, vocab_size, order)

    monkeypatch.setattr(NGramModel, "count", watched)
    return counts


def _prepared(run: Run) -> PreparedData:
    recipe, manager = run.recipe(), make_manager()
    corpus = manager.build("corpora", recipe.data.part.name, recipe.data.part.options)
    return prepare_data(corpus, manager.build("tokenizers", "bytes", {}), default_cache())


def _data(run: Run, rows: int = 6) -> TextDataModule:
    return rows_of(run.recipe(), _prepared(run), autoencoder_of(run.recipe()), 1, rows)
