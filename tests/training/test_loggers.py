"""Loggers by name."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from lightning.pytorch import loggers

from calmkit.training.errors import RunFailed
from calmkit.training.loggers import make_loggers, wandb_is_set_up


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
    with pytest.raises(RunFailed, match=r"'wandb' needs a library: pip install 'calmkit\[wandb\]'"):
        make_loggers(["csv", "wandb"], tmp_path)


WANDB = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_DISABLED", "WANDB_BASE_URL")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without an account of wandb, in a job without a terminal."""
    for name in WANDB:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path


def test_wandb_without_a_key_a_mode_or_a_terminal_is_not_set_up(bare: Path) -> None:
    assert not wandb_is_set_up()
    (bare / "netrc").write_text("machine elsewhere.example login user password secret\n")
    (bare / "wandb").mkdir()
    (bare / "wandb" / "settings").write_text("[default]\nentity = me\n")
    assert not wandb_is_set_up()
    (bare / "wandb" / "settings").write_text("no settings")
    (bare / "netrc").write_text("machine")
    assert not wandb_is_set_up()


@pytest.mark.parametrize("name", ["WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
def test_the_environment_sets_wandb_up(bare: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "offline")
    assert wandb_is_set_up()


def test_the_netrc_file_sets_wandb_up_for_its_host(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert wandb_is_set_up()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8080")
    assert not wandb_is_set_up()
    (bare / "netrc").write_text("machine wandb.example login user password secret\n")
    assert wandb_is_set_up()


@pytest.mark.parametrize("folder", ["wandb", "config"])
def test_settings_of_wandb_set_it_up(bare: Path, folder: str) -> None:
    (bare / folder).mkdir()
    (bare / folder / "settings").write_text("[default]\nmode = offline\n")
    assert wandb_is_set_up()
