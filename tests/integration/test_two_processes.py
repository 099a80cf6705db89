"""`trainer.devices=2` on the CPU: one run folder, metrics over both processes, the same failure in both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import column, workshop

from calmkit.training.evaluate import evaluate
from calmkit.training.run import Run

TIME_LIMIT = 240  # seconds; a run takes about 15 on one core, a hang takes for ever
TWO = (
    "trainer.devices=2",
    "stages.autoencoder.max_steps=10",
    "stages.autoencoder.batch_size=4",  # in each process
    "stages.lm.max_steps=12",
    "stages.lm.eval_every=6",
    "stages.lm.batch_size=4",
    "evaluation.max_rows=7",  # the last batch of the second process has a row less
)


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("two_processes")) as folder:
        yield folder


def calm(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as a user types it; Lightning starts it a second time."""
    return started(folder, "-m", "calmkit.cli.main", *words)


def started(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python in an environment as a user has it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    environment["CALMKIT_MORE_PROCESSES"] = "1"  # two, on a machine of one core too
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT
    )


@pytest.fixture(scope="module")
def done(folder: Path) -> subprocess.CompletedProcess[str]:
    """A run without --out, so both processes have to agree on its folder."""
    return calm(folder, "train", "small.yaml", *TWO)


@pytest.fixture(scope="module")
def run(folder: Path, done: subprocess.CompletedProcess[str]) -> Run:
    assert done.returncode == 0, done.stderr
    (made,) = (folder / "runs" / "small").iterdir()  # one folder only
    return Run(made)


def test_it_ends_well_and_says_everything_once(done: subprocess.CompletedProcess[str], run: Run) -> None:
    lines = done.stdout.splitlines()
    assert sum(line.startswith("done: ") for line in lines) == 1
    assert sum(line.startswith("run: ") for line in lines) == 1
    assert sum(line.startswith("lm  step 12/12") for line in lines) == 1
    assert "Warning" not in done.stderr, done.stderr


def test_it_learns(run: Run) -> None:
    first, *_, last = column(run, "autoencoder/train/loss")
    assert last < first
    assert len(column(run, "lm/val/loss")) == 2


def test_every_row_is_measured_once(run: Run) -> None:
    """7 rows of 8 units over two processes: no row twice, none left out."""
    assert (run.evaluation["rows"], run.evaluation["units"]) == (7, 56)
    both = run.evaluation
    alone = evaluate(run.folder, ["trainer.devices=1"])
    assert (alone["rows"], alone["units"]) == (7, 56)
    for name in ("unigram_brier_lm", "bigram_brier_lm", "trigram_brier_lm"):
        assert alone[name] == both[name]
    # The same rows with other draws: the loss is a mean over them, so the two can't be far apart.
    assert abs(alone["loss"] - both["loss"]) < 0.1 * both["loss"]


def test_both_measure_other_data(folder: Path, run: Run) -> None:
    done = calm(folder, "eval", str(run.folder), "data.sequence_length=16", "--json")
    assert done.returncode == 0, done.stderr
    (path,) = run.folder.glob("evaluation-*.json")
    scores = json.loads(path.read_text())
    assert scores["rows"] == 7
    assert "reconstruction_token_accuracy" in scores
    assert done.stdout.count('"reconstruction_token_accuracy"') == 1


def test_a_failure_of_both_is_told_once(folder: Path) -> None:
    optimizer = ("stages.autoencoder.optimizer.lr=1e30", "stages.autoencoder.optimizer.warmup_steps=0")
    failed = calm(folder, "train", "small.yaml", *TWO, *optimizer, "stages.lm=null", "--out", "failed")
    assert failed.returncode == 1, failed.stderr
    assert failed.stderr.count("error: The ") == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Its batch begins at row 8 of the training stream" in failed.stderr  # a step of 2 x 4 rows


ALONE = """
from calmkit.cli.main import main
from calmkit.interfaces import DataError
from calmkit.training.stages import ModelModule

step = ModelModule.training_step

def fails(self, batch, batch_idx):
    if self.global_rank == {rank} and self.global_step == 2:
        raise {error}
    return step(self, batch, batch_idx)

ModelModule.training_step = fails
main()
"""
DISCRETE = (
    "stages.autoencoder=null",
    "autoencoder=token_chunks",
    "head=local_ar",
    "evaluation.untrained=false",
)


@pytest.mark.parametrize(
    ("rank", "error", "told"),
    [
        (1, "DataError('row 5 is torn')", "error: Process 1: row 5 is torn"),
        (0, "DataError('row 4 is torn')", "error: row 4 is torn"),
    ],
)
def test_a_failure_of_one_alone_is_told_once(folder: Path, rank: int, error: str, told: str) -> None:
    """And what it says is the cause, not that somebody can't be reached any more."""
    (folder / "alone.py").write_text(ALONE.format(rank=rank, error=error))
    words = (*TWO[:1], *TWO[3:], *DISCRETE, "--out", f"alone-{rank}-{error[:4]}")
    failed = started(folder, "alone.py", "train", "small.yaml", *words)
    assert failed.returncode != 0, failed.stderr
    lines = failed.stderr.splitlines()
    assert [line for line in lines if "error" in line.lower()] == [told], failed.stderr
    assert "Traceback" not in failed.stderr
