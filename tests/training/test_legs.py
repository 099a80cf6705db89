"""What was changed on a run's way stands in its lock, and is changed again where the run is repeated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import TINY, column, go_on, small_run, stopped, workshop

from calmkit.training.errors import RunFailed, Stopped
from calmkit.training.legs import Leg, legs_of
from calmkit.training.reproduce import reproduce
from calmkit.training.resume import Wishes
from calmkit.training.run import Run


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def test_a_run_that_only_stopped_and_went_on_has_no_legs(folder: Path) -> None:
    run = folder / "run"
    stopped(small_run, "lm", 2, folder, str(run), *TINY)
    again = go_on(run, "trainer.workers=0", "trainer.checkpoint.every=3", "evaluation.sample_tokens=8")
    assert legs_of(again.lock) == []


def test_every_change_is_noted_and_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 8 rows, of 4 behind step 2, a batch left out and half the rate behind step 4; then longer.

    The last repetition is of a run that forgot the legs: it must come out otherwise, or nothing was shown.
    """
    run = folder / "run"
    stopped(small_run, "lm", 2, folder, str(run), *TINY, "stages.lm.max_steps=6")
    stopped(go_on, "lm", 4, run, "stages.lm.batch_size=4")
    go_on(run, wishes=Wishes(skip_batch=True, lr_scale=0.5))
    done = go_on(run, "stages.lm.max_steps=8", "trainer.log_every=1")
    assert legs_of(done.lock) == [
        Leg("lm", 2, changed={"stages.lm.batch_size": [8, 4]}),
        Leg("lm", 4, skip_batch=True, lr_scale=0.5),
        Leg("lm", 6, changed={"stages.lm.max_steps": [6, 8], "trainer.log_every": [2, 1]}),
    ]
    said: list[str] = []
    found = reproduce(run, out=folder / "again", say=said.append)
    assert found is not None
    assert found.same, found.outcomes
    assert [line for line in said if line.startswith("as then")] == [
        "as then, from step 2 of stage lm on: stages.lm.batch_size 8 -> 4",
        "as then, from step 4 of stage lm on: a batch left out, 0.5 of the learning rate",
        "as then, from step 6 of stage lm on: stages.lm.max_steps 6 -> 8, trainer.log_every 2 -> 1",
    ]
    monkeypatch.setattr("calmkit.training.again.legs_of", lambda lock: [])
    forgot = reproduce(run, out=folder / "forgot", say=said.append)
    assert forgot is not None
    assert not forgot.same


def test_a_change_between_the_stages_and_in_the_first_one(folder: Path) -> None:
    run = folder / "run"
    stopped(small_run, "autoencoder", 3, folder, str(run), *TINY)
    stopped(go_on, "lm", 0, run, "stages.autoencoder.batch_size=5")
    go_on(run, "stages.lm.batch_size=6")
    assert [(leg.stage, leg.step) for leg in legs_of(Run(run).lock)] == [("autoencoder", 3), ("lm", 0)]
    found = reproduce(run, out=folder / "again", say=lambda line: None)
    assert found is not None
    assert found.same, found.outcomes


@pytest.mark.parametrize(
    "leg",
    [
        {"stage": "lm", "steps": 2},
        {"stage": "lm", "step": 2, "changed": {"a": 1}},
        {"stage": "x", "step": 2},
        3,
    ],
)
def test_legs_that_nobody_can_read_are_named(leg: object) -> None:
    with pytest.raises(RunFailed, match=r"lock\.yaml: went_on can't be read"):
        legs_of({"went_on": [leg]})


def test_a_run_that_falls_back_follows_from_there_what_came_later(folder: Path) -> None:
    """The checkpoints of steps 3 and 4 are damaged, and with them goes what was wished at 4."""
    run, keep = folder / "run", "trainer.checkpoint.keep=9"
    stopped(small_run, "lm", 4, folder, str(run), *TINY, "trainer.checkpoint.every=1", keep)
    with pytest.raises(Stopped):
        go_on(run, "stages.lm.batch_size=4", wishes=Wishes(lr_scale=0.5, stop=("lm", 5)))
    for step in (3, 4, 5):
        (run / "checkpoints" / "lm" / f"step-{step:08d}.safetensors").write_bytes(b"torn")
    done = go_on(run)
    assert legs_of(done.lock) == [Leg("lm", 2, changed={"stages.lm.batch_size": [8, 4]})]
    found = reproduce(run, out=folder / "again", say=lambda line: None)
    assert found is not None
    assert found.same, found.outcomes


def test_wishes_that_nothing_can_follow_are_refused_and_no_leg_is_noted(folder: Path) -> None:
    run = folder / "run"
    stopped(small_run, "lm", 0, folder, str(run), *TINY)
    shutil.rmtree(run / "checkpoints" / "lm")
    for wishes in (Wishes(skip_batch=True), Wishes(lr_scale=0.5)):
        with pytest.raises(RunFailed, match="stage lm has no checkpoint yet"):
            go_on(run, wishes=wishes)
    assert legs_of(Run(run).lock) == []


def test_a_run_that_logs_no_lines_for_a_while_keeps_those_it_has(folder: Path) -> None:
    run = folder / "run"
    stopped(small_run, "lm", 3, folder, str(run), *TINY)
    before = [column(Run(run), f"{stage}/train/loss") for stage in ("autoencoder", "lm")]
    stopped(go_on, "lm", 5, run, "loggers=[]")
    done = go_on(run, "loggers=[csv]")
    first, second = (column(done, f"{stage}/train/loss") for stage in ("autoencoder", "lm"))
    assert (first, second[:1]) == (before[0], before[1][:1])
    assert len(second) == 3  # behind steps 2, 6 and 8
    assert [leg.step for leg in legs_of(done.lock)] == [3, 5]


def test_legs_of_several_processes_are_refused_before_training(folder: Path) -> None:
    run = folder / "run"
    small_run(folder, str(run), *TINY)
    lock = run / "lock.yaml"
    leg = '{"stage": "lm", "step": 3, "changed": {"trainer.devices": ["2", "1"]}}'
    (run / "run.sha256").unlink()
    lock.write_text(lock.read_text() + f"went_on:\n  - {leg}\n")
    with pytest.raises(RunFailed, match=r"while 2 processes trained it.*--stop-at lm:3"):
        reproduce(run, out=folder / "again")
    assert not (folder / "again").exists()


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)
