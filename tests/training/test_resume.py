"""A run goes on where it stopped: n steps are k steps and n - k steps, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_digits import digits_run, workshop_of_digits
from small_runs import TINY, column, differences, go_on, small_run, stopped, workshop

from calmkit.registry import make_manager
from calmkit.training.errors import GateMissed, RunFailed, Stopped
from calmkit.training.run import Run
from calmkit.training.snapshots import stage_folder
from calmkit.training.stages import ModelModule

HARD = (*TINY, "stages.lm.batch_size=40", "trainer.accumulate=2", "trainer.ema=0.9")  # 8 x 80 rows of 486


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("resume")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Run:
    """Nobody disturbed it."""
    return small_run(folder, "whole", *TINY)


@pytest.fixture(scope="module")
def hard(folder: Path) -> Run:
    """Two batches a step, over the end of an epoch, averaged."""
    return small_run(folder, "hard", *HARD)


def same(one: Run, other: Run) -> bool:
    """Also in all numbers of the evaluation but speeds."""
    assert differences(one, other) == []
    timed = ("tokens_per_second", "plain_tokens_per_second")
    first, second = ({k: v for k, v in run.evaluation.items() if k not in timed} for run in (one, other))
    assert first == second
    assert not list(other.folder.rglob("*.tmp"))
    return True


def test_stopped_in_either_stage_it_ends_as_if_nobody_had_stopped_it(
    folder: Path, tmp_path: Path, hard: Run
) -> None:
    """Behind steps 1 and 6 (the last, before its validation) of stage 1, 2 and 7 of stage 2: in epochs 1
    and 2; with processes that read ahead, and without.
    """
    run = tmp_path / "run"
    stopped(small_run, "autoencoder", 1, folder, str(run), *HARD, "trainer.workers=2")
    stopped(go_on, "autoencoder", 6, run)
    stopped(go_on, "lm", 2, run, "trainer.workers=0")
    stopped(go_on, "lm", 7, run, "trainer.workers=2")
    said: list[str] = []
    assert same(hard, go_on(run, say=said.append))
    assert "stage autoencoder is done" in said
    (line,) = (line for line in said if line.startswith("stage lm goes on"))
    assert line.startswith("stage lm goes on at step 7 of 8: resumed at unit 4,480; next batch sha256 ")
    assert len(line.rsplit(" ", 1)[1]) == 64  # 7 steps of 2 batches of 40 rows of 8 units are 4,480


def test_images_go_on_too(tmp_path: Path) -> None:
    """A label left out at random, an order at random, an average."""
    words = ("stages.lm.max_steps=5", "trainer.accumulate=2", "trainer.workers=2")
    with workshop_of_digits(tmp_path) as folder:
        whole, run = digits_run(folder, "whole", *words), folder / "run"
        stopped(digits_run, "lm", 1, folder, "run", *words)
        stopped(go_on, "lm", 4, run, manager=make_manager(guests=[]))
        again = go_on(run, manager=make_manager(guests=[]))
    assert differences(whole, again) == []
    assert whole.evaluation["fd"] == again.evaluation["fd"]


def test_whatever_the_trainer_does_with_a_step_it_goes_on_so(folder: Path, tmp_path: Path) -> None:
    """Half precision, gradients that are cut short, layers that are computed again."""
    words = (*TINY, "backbone=transformer", "backbone.heads=2", "trainer.activation_checkpointing=true")
    words += ("trainer.precision=bf16-mixed", "stages.lm.optimizer.clip=0.01")
    whole, run = small_run(folder, str(tmp_path / "whole"), *words), tmp_path / "run"
    stopped(small_run, "lm", 5, folder, str(run), *words)
    assert same(whole, go_on(run))


def test_stopped_between_the_stages(
    folder: Path, tmp_path: Path, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*given: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("calmkit.training.train._second_stage", ends)
        with pytest.raises(Stopped, match=r"Stopped by SIGTERM") as told:
            small_run(folder, str(run), *TINY)
    assert told.value.code == 75
    assert same(whole, go_on(run))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_stopped_in_a_validation(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """The validation behind step 6 begins anew, and its line is there once."""
    step, run = ModelModule.validation_step, tmp_path / "run"
    words = (*TINY, "evaluation.batch_size=1", "stages.lm.batch_size=2")

    def killed(self: ModelModule, batch: Any, batch_idx: int) -> None:
        step(self, batch, batch_idx)
        if self.global_step == 6:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(ModelModule, "validation_step", killed)
        with pytest.raises(Stopped, match="Stopped at step 6 of 8 of stage lm") as told:
            small_run(folder, str(run), *words)
    assert told.value.code == code
    other = small_run(
        folder, str(tmp_path / "other"), *TINY, "evaluation.batch_size=1", "stages.lm.batch_size=2"
    )
    assert same(other, go_on(run))


def test_stopped_while_it_is_measured_at_the_end(
    folder: Path, tmp_path: Path, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained again; then there is nothing to do."""
    run = tmp_path / "run"

    def ends(*given: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("calmkit.training.final.write_groups", ends)
        with pytest.raises(KeyboardInterrupt):
            small_run(folder, str(run), *TINY)
    said: list[str] = []
    assert same(whole, go_on(run, say=said.append))
    assert "stage lm is done" in said
    assert not any(line.startswith("lm ") for line in said)
    said.clear()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    go_on(run, say=said.append)
    assert said == [
        f"{run} is done: stage lm took its 8 steps. Nothing was changed. `calmkit train {run} "
        f"stages.lm.max_steps=16` trains it for longer, `calmkit eval {run}` measures it anew."
    ]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_that_is_done_may_be_trained_for_longer(folder: Path, tmp_path: Path, whole: Run) -> None:
    """Six steps and two more are eight, and what was measured behind six is measured anew."""
    run = small_run(folder, str(tmp_path / "run"), *TINY, "stages.lm.max_steps=6")
    assert run.facts["lm_steps"] == 6
    assert same(whole, go_on(run.folder, "stages.lm.max_steps=8"))
    assert run.facts["lm_steps"] == 8
    assert run.recipe().stages.lm.max_steps == 8
    with pytest.raises(RunFailed, match=r"stands at step 8 of stage lm, behind the 7 of stages\.lm"):
        go_on(run.folder, "stages.lm.max_steps=7")
    assert run.recipe().stages.lm.max_steps == 8


def test_a_run_without_checkpoints_is_not_begun_anew_in_silence(folder: Path, tmp_path: Path) -> None:
    run = small_run(folder, str(tmp_path / "run"), *TINY, "stages.lm.max_steps=1")
    for path in stage_folder(run.folder, "lm").iterdir():
        path.unlink()
    with pytest.raises(RunFailed, match=r"no checkpoint of stage lm left .*stages\.lm\.init_from="):
        go_on(run.folder, "stages.lm.max_steps=8")


def test_a_first_stage_below_its_gate_may_be_trained_for_longer(folder: Path, tmp_path: Path) -> None:
    """Each try goes on; the gate is asked again, and behind it stage 2 rests on what there is."""
    run, gate = tmp_path / "run", "stages.autoencoder.gate.min=1.0"
    short = ("stages.autoencoder.max_steps=3", "stages.lm.max_steps=2")
    with pytest.raises(GateMissed):
        small_run(folder, str(run), *TINY, *short, gate)
    with pytest.raises(GateMissed):
        go_on(run)
    with pytest.raises(GateMissed):
        go_on(run, "stages.autoencoder.max_steps=6")
    again = go_on(run, "stages.autoencoder.gate=null")
    other = small_run(folder, str(tmp_path / "other"), *TINY, "stages.lm.max_steps=2")
    assert differences(other, again) == []
    with pytest.raises(RunFailed, match="stage 2 rests on the autoencoder as it is"):
        go_on(run, "stages.autoencoder.max_steps=7")


def test_an_autoencoder_alone_goes_on_and_ends(folder: Path, tmp_path: Path) -> None:
    words, run = (*TINY, "stages.lm=null"), tmp_path / "run"
    other = small_run(folder, str(tmp_path / "other"), *words)
    stopped(small_run, "autoencoder", 4, folder, str(run), *words)
    assert differences(other, go_on(run)) == []
    said: list[str] = []
    go_on(run, say=said.append)
    assert said[0].startswith(f"{run} is done: stage autoencoder took its 6 steps.")


def test_a_damaged_checkpoint_costs_the_steps_behind_the_one_before_it(
    folder: Path, tmp_path: Path, whole: Run
) -> None:
    """Kept behind step 6 and, when it stopped, 7: the second is cut."""
    run = tmp_path / "run"
    stopped(small_run, "lm", 7, folder, str(run), *TINY)
    path = stage_folder(run, "lm") / "step-00000007.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    said: list[str] = []
    assert same(whole, go_on(run, say=said.append))
    assert any(line.startswith(f"warning: The checkpoint {path} was cut or altered") for line in said)
    assert any(line.startswith("stage lm goes on at step 6 of 8") for line in said)


def test_with_all_checkpoints_gone_a_stage_begins_anew(folder: Path, tmp_path: Path, whole: Run) -> None:
    run = tmp_path / "run"
    stopped(small_run, "lm", 7, folder, str(run), *TINY)
    for path in stage_folder(run, "lm").glob("*.json"):
        path.write_text("{}")
    said: list[str] = []
    assert same(whole, go_on(run, say=said.append))
    assert sum(line.startswith("warning: The checkpoint") for line in said) == 2


def test_every_metric_is_there_once_whatever_happened(whole: Run) -> None:
    """By hand: losses behind steps 2, 4, 6, 8; validations behind 3 and 6."""
    assert column(whole, "step") == [1, 2, 3, 5, 5, 1, 2, 3, 5, 5, 7]


def test_a_run_that_died_before_its_lock_was_written_has_one_later(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped(small_run, "lm", 2, folder, str(run), *TINY)
    fingerprint = Run(run).lock["data"]
    (run / "lock.yaml").unlink()
    (run / "model" / ".model.safetensors.123.tmp").write_text("half")
    go_on(run)
    assert Run(run).lock["data"] == fingerprint
    assert not list(run.rglob("*.tmp"))
    assert json.loads((run / "checkpoints" / "untrained.json").read_text())
