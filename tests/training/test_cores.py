"""On the CPU a device is a process: no more of them than cores, unless the environment says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_runs import small_recipe, workshop

from calmkit.training import cores
from calmkit.training.errors import RunFailed
from calmkit.training.trainer import make_trainer


def devices(folder: Path, number: str) -> int:
    with workshop(folder):
        return make_trainer(small_recipe(folder, f"trainer.devices={number}")).num_devices


@pytest.mark.parametrize("number", ["3", "99999"])
def test_more_processes_than_cores_are_refused(
    number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cores.ALLOW_MORE, raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    said = (
        rf"trainer\.devices={number} would start {number} processes on a CPU with 2 usable cores.*devices=2 "
    )
    with pytest.raises(RunFailed, match=said):
        devices(tmp_path, number)


@pytest.mark.parametrize("number", ["1", "2", "auto"])
def test_as_many_as_cores_are_not(number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cores.ALLOW_MORE, raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    assert devices(tmp_path, number) == (2 if number == "2" else 1)


def test_the_environment_allows_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    monkeypatch.setenv(cores.ALLOW_MORE, "1")
    assert devices(tmp_path, "3") == 3
    monkeypatch.setenv(cores.ALLOW_MORE, "0")
    with pytest.raises(RunFailed):
        devices(tmp_path, "3")


def test_the_cores_of_this_process() -> None:
    assert 1 <= cores.usable_cores() <= (os.cpu_count() or 1)
