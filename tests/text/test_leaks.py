from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import SHORT, small_run, workshop

from calmkit.data.cache import default_cache
from calmkit.registry import make_manager
from calmkit.text.corpora.text import TextCorpus
from calmkit.text.leaks import leaks_of_run
from calmkit.text.prepare import prepare_data
from calmkit.text.tokenizers.bytes import BytesTokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def test_only_a_text_that_the_run_learnt_from_is_named_as_such(folder: Path) -> None:
    run = small_run(folder, "run", *SHORT)
    (folder / "clean.jsonl").write_text('{"text": "clean"}\n')
    corpus = TextCorpus(train=str(folder / "clean.jsonl"), valid=str(folder / "corpus.jsonl"))
    prepared = prepare_data(corpus, BytesTokenizer(), default_cache())
    said: list[str] = []
    scores = leaks_of_run(prepared, run, make_manager(), said.append)
    assert 0.5 < scores["leaked_documents"] < 1  # the rest of the file was held out
    assert len(said) == 1
    assert "also stand in the text that the run was trained on" in said[0]
    # the same recipe, but its model came from elsewhere, as an imported one does
    (run.folder / "run.sha256").unlink()
    lock = run.folder / "lock.yaml"
    lock.write_text(lock.read_text().replace(str(run.lock["data"]), "none: imported"))
    assert leaks_of_run(prepared, run, make_manager(), said.append) == {"leaked_documents": 0.0}
    assert len(said) == 1


def test_what_the_run_never_saw_counts_for_nothing(folder: Path) -> None:
    """All that is held out also stands in the training text beside it, but not in the run's own."""
    run = small_run(folder, "run", *SHORT)
    (folder / "twice.jsonl").write_text('{"text": "said twice"}\n')
    twice = str(folder / "twice.jsonl")
    prepared = prepare_data(TextCorpus(train=twice, valid=twice), BytesTokenizer(), default_cache())
    assert prepared.leaked.share == 1
    said: list[str] = []
    assert leaks_of_run(prepared, run, make_manager(), said.append) == {"leaked_documents": 0.0}
    assert said == []
