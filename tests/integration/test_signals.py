"""Signals to a real process: it saves, says how it goes on, and ends with the code that is promised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_runs import TINY, workshop

from calmkit.training.run import Run
from calmkit.training.run_folder import held
from calmkit.training.snapshots import newest_snapshot, stage_folder

TIME_LIMIT = 300.0
ENDLESS = ("stages.autoencoder.max_steps=1000000", "stages.autoencoder.eval_every=1000000")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A command in a process group of its own, as a shell starts it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "calmkit", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def to_all(process: subprocess.Popen[str], number: int) -> None:
    """As a terminal sends Ctrl-C, and SLURM its signals: to those that read ahead too."""
    os.killpg(process.pid, number)


def to_one(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)


@pytest.mark.parametrize(
    ("number", "send", "code"),
    [(signal.SIGTERM, to_one, 75), (signal.SIGUSR1, to_all, 75), (signal.SIGINT, to_all, 130)],
)
def test_a_signal_saves_and_ends_with_its_code(
    folder: Path, number: int, send: Callable[[subprocess.Popen[str], int], None], code: int
) -> None:
    """Behind 20 steps or more of a stage that would never end; two processes read ahead."""
    words = (*TINY, *ENDLESS, "trainer.checkpoint.every=20", "trainer.workers=2")
    process = start(folder, "train", "small.yaml", "--out", "run", *words)
    kept = stage_folder(folder / "run", "autoencoder")
    until = time.monotonic() + TIME_LIMIT
    while not list(kept.glob("*.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    send(process, number)
    out, error = process.communicate(timeout=TIME_LIMIT)
    assert process.returncode == code, (out, error)
    assert error.startswith("stopped: Stopped at step "), error
    assert error.strip().endswith("of stage autoencoder. `calmkit train run` goes on.")
    assert "Traceback" not in error
    found = newest_snapshot(kept, pytest.fail)
    assert found is not None
    assert f"at step {found.step:,} of 1,000,000" in error
    with held(folder / "run"):  # nobody holds it any more
        pass


def test_a_second_process_on_the_folder_is_refused_and_the_lock_dies_with_its_owner(folder: Path) -> None:
    """Killed outright, while two processes read ahead for it, it leaves no lock."""
    words = (*TINY, *ENDLESS, "trainer.checkpoint.every=20", "trainer.workers=2")
    process = start(folder, "train", "small.yaml", "--out", "run", *words)
    kept = stage_folder(folder / "run", "autoencoder")
    while not list(kept.glob("*.json")) and process.poll() is None:
        time.sleep(0.02)
    second = start(folder, "train", "run")
    out, error = second.communicate(timeout=TIME_LIMIT)
    assert second.returncode == 1, (out, error)
    assert error.startswith("error: run is being filled by another process; wait for it")
    assert process.poll() is None
    process.kill()
    process.communicate(timeout=TIME_LIMIT)
    with held(Run(folder / "run").folder):
        pass
