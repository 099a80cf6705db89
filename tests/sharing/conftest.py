"""One tiny run of bytes for all tests of this folder, and its export; no test changes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import SHORT, small_run, workshop

from calmkit.sharing.export import export_run
from calmkit.training.run import Run

BPE = "tokenizer={name: bpe, vocab_size: 300}"
ODD = "description='<b>|of /home/somebody/letters'"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workshop with the run `run`, and its export as `out` in a folder of its own."""
    folder = tmp_path_factory.mktemp("sharing")
    with workshop(folder):
        small_run(folder, "run", *SHORT, BPE, ODD)
        export_run(Run(folder / "run"), folder / "elsewhere" / "out", say=lambda line: None)
    return folder


@pytest.fixture
def shop(exported: Path) -> Iterator[Path]:
    """The workshop, as a user stands in it."""
    with workshop(exported) as folder:
        yield folder
