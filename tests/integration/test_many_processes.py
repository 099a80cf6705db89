"""One recipe on one, two and four processes of the CPU: the same batches, the same losses, one run folder.

The model is discrete and has no dropout, so that a step draws no noise: processes draw noise of their own,
and what they draw is the one thing that may differ with their number.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file
from small_runs import column, workshop

from calmkit.training.run import Run

TIME_LIMIT = 300  # seconds; a run takes 15 on one core, a hang takes for ever
STEPS, ROWS = 20, 8
DISCRETE = (
    "backbone=transformer",
    "backbone.depth=2",
    "backbone.heads=2",
    "head=local_ar",
    "autoencoder=token_chunks",
    "stages.autoencoder=null",
    f"stages.lm.max_steps={STEPS}",
    "stages.lm.eval_every=10",
    "trainer.log_every=1",
    "evaluation.untrained=false",
)
LOSS = 1e-5


def on(processes: int, strategy: str = "ddp") -> tuple[str, ...]:
    """The same rows a step, dealt out to so many."""
    each = f"stages.lm.batch_size={ROWS // processes}"
    return each, f"trainer.devices={processes}", f"trainer.strategy={'auto' if processes == 1 else strategy}"


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    environment["CALMKIT_MORE_PROCESSES"] = "1"  # on a machine of one core too

    with workshop(tmp_path_factory.mktemp("many")) as folder:

        def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "calmkit", "train", *words]
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT
            )
            assert done.returncode == code, done.stdout + done.stderr
            return done

        yield run


@pytest.fixture(scope="module")
def alone(calm: Callable[..., object]) -> Run:
    calm("small.yaml", *DISCRETE, *on(1), "--out", "alone")
    return Run(Path("alone").absolute())


def assert_as(alone: Run, run: Run) -> None:
    losses, expected = column(run, "lm/train/loss"), column(alone, "lm/train/loss")
    assert len(losses) == len(expected) == STEPS
    assert max(abs(a - b) for a, b in zip(losses, expected, strict=True)) < LOSS
    assert len(column(run, "lm/val/loss")) == 2
    for name in ("rows", "units", "unigram_brier_lm", "trigram_brier_lm"):
        assert run.evaluation[name] == alone.evaluation[name]
    ours, theirs = load_file(run.weights), load_file(alone.weights)
    assert ours.keys() == theirs.keys()
    assert all(value.shape == theirs[name].shape for name, value in ours.items())


@pytest.mark.parametrize(("processes", "strategy"), [(2, "ddp"), (2, "fsdp2"), (4, "ddp")])
def test_several_processes_train_as_one_does(
    calm: Callable[..., subprocess.CompletedProcess[str]], alone: Run, processes: int, strategy: str
) -> None:
    out = f"{strategy}-{processes}"
    done = calm("small.yaml", *DISCRETE, *on(processes, strategy), "--out", out)
    assert_as(alone, Run(Path(out).absolute()))
    assert done.stdout.count("done: ") == done.stdout.count(f"lm  step {STEPS}/{STEPS}") == 1


def test_a_run_moves_from_two_sharded_processes_to_four_to_one(
    calm: Callable[..., subprocess.CompletedProcess[str]], alone: Run
) -> None:
    calm("small.yaml", *DISCRETE, *on(2, "fsdp2"), "--out", "moved", "--stop-at", "lm:7", code=75)
    second = calm("moved", *on(4), "--stop-at", "lm:10", code=75)
    assert "resumed at unit 448; next batch sha256 " in second.stdout  # 7 steps of 8 rows of 8 units
    assert "changed: 4 processes, before 2" in second.stdout
    last = calm("moved", *on(1))
    assert "changed: 1 processes, before 4" in last.stdout
    assert_as(alone, Run(Path("moved").absolute()))


def test_a_sharded_run_keeps_an_average_and_gathers_it(
    calm: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Both stages, noise, the average of the weights: what is saved is whole, and is the average."""
    words = ("backbone=transformer", "backbone.heads=2", "head=mixture", "trainer.ema=0.5")
    words += ("stages.autoencoder.max_steps=4", "stages.lm.max_steps=4", "evaluation.untrained=false")
    calm("small.yaml", *words, *on(2, "fsdp2"), "--out", "averaged")
    run = Run(Path("averaged").absolute())
    weights = load_file(run.weights)
    kept = load_file(run.folder / "checkpoints" / "lm" / "step-00000004.safetensors")
    averages = {
        name.removeprefix("average."): v for name, v in kept.items() if name.startswith("average.model.")
    }
    assert averages
    for name, value in averages.items():
        assert weights[name.removeprefix("model.")].equal(value), name
