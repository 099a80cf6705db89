"""What was changed on a run's way stands in its lock, and is changed again where the run is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import TINY, go_on, small_run, stopped, workshop

from calmkit.training.errors import RunFailed
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


def test_legs_that_nobody_can_read_are_named() -> None:
    with pytest.raises(RunFailed, match=r"lock\.yaml: went_on can't be read"):
        legs_of({"went_on": [{"stage": "lm", "steps": 2}]})


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)
