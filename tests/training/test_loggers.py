"""Loggers by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import loggers

from calmkit.training.errors import RunFailed
from calmkit.training.loggers import make_loggers


def test_csv_writes_into_the_run_folder(tmp_path: Path) -> None:
    (made,) = make_loggers(["csv"], tmp_path)
    made.log_metrics({"a": 1.5}, step=3)
    made.save()
    assert (tmp_path / "metrics.csv").read_text().split() == ["a,step", "1.5,3"]


def test_none_at_all() -> None:
    assert make_loggers([], Path()) == []


def test_an_unknown_one_is_refused_with_all_there_are(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"No logger 'neptun'\. There are: csv, tensorboard, wandb\."):
        make_loggers(["neptun"], tmp_path)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(**settings: object) -> None:
        raise ModuleNotFoundError("no such module", name="wandb")

    monkeypatch.setattr(loggers, "WandbLogger", absent)
    with pytest.raises(RunFailed, match="The logger 'wandb' needs a library: pip install wandb"):
        make_loggers(["csv", "wandb"], tmp_path)
