"""A head whose loss moves is told how far training is; what it is told is in no file of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import differences, go_on, small_run, stopped, workshop

import calmkit
from calmkit.head_calls import tell_progress
from calmkit.heads.energy import EnergyHead
from calmkit.interfaces import EventSpec
from calmkit.training.run import Run

MOVING = (
    "stages.autoencoder.max_steps=2",
    "stages.lm.max_steps=5",
    "stages.lm.eval_every=2",
    "trainer.accumulate=2",
    "stages.lm.eval_rows=1",
    "evaluation.untrained=false",
    "evaluation.max_rows=2",
    "evaluation.sample_tokens=4",
    "head.depth=1",
    "head.first_exponent=0.5",
    "head.likelihood_until=0.5",
    "head.num_codes=4",
    "head.noise=modulation",
    "head.marginal=0.2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("scheduled")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


def told_by(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every fraction that any energy head is told from here on, without repeats in a row."""
    told, take = [], EnergyHead.at_progress

    def at_progress(self: EnergyHead, fraction: float) -> None:
        if told[-1:] != [fraction]:
            told.append(fraction)
        take(self, fraction)

    monkeypatch.setattr(EnergyHead, "at_progress", at_progress)
    return told


def test_it_is_told_before_every_loss_and_a_run_that_goes_on_ends_as_one_that_was_left_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 0 to 4 of 5; each validation, one behind every second step and the last, is told 1."""
    told = told_by(monkeypatch)
    whole, run = small_run(folder, str(tmp_path / "whole"), *MOVING), tmp_path / "run"
    assert told == [0.0, 0.2, 1.0, 0.4, 0.6, 1.0, 0.8, 1.0]
    told.clear()
    stopped(small_run, "lm", 3, folder, str(run), *MOVING)
    assert told == [0.0, 0.2, 1.0, 0.4]
    told.clear()
    assert differences(whole, go_on(run)) == []
    assert told == [0.6, 1.0, 0.8, 1.0]
    assert_saved_without_it(whole)


def assert_saved_without_it(run: Run) -> None:
    head = calmkit.load(run.folder).model.head
    assert isinstance(head, EnergyHead)
    assert head.progress == 1.0
    kept = {name for name in head.state_dict() if not name.startswith("network.")}
    assert kept == {"log_scale"}


def test_other_heads_are_told_nothing_and_no_fraction_is_above_one() -> None:
    head = EnergyHead(4, EventSpec((2,)), depth=1, width=4, first_exponent=0.5)
    tell_progress(head, 1.5)
    assert head.progress == 1.0
    tell_progress(torch.nn.Identity(), 0.5)  # type: ignore[arg-type]
