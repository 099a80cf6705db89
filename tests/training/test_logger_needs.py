"""What loggers need of the machine."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from calmkit.recipe.loggers import KNOWN
from calmkit.training.logger_needs import LIBRARIES, wandb_is_set_up


def test_every_logger_but_csv_needs_a_library() -> None:
    assert set(KNOWN) - set(LIBRARIES) == {"csv"}


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
