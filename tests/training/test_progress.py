"""What a person sees, by hand: which lines come, and a bar that moves."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from calmkit.interfaces import Batch
from calmkit.text.preparing import preparing
from calmkit.training.callbacks import RowsProgress, StageProgress
from calmkit.training.progress import Progress
from calmkit.training.shown import Bar
from calmkit.training.standing import StandingFile, read_standing


def trainer(step: int, **scores: float) -> Any:
    metrics = {f"lm/val/{name}": torch.tensor(value) for name, value in scores.items()}
    made = Mock(spec=pl.Trainer)
    made.global_step, made.callback_metrics = step, metrics
    made.val_dataloaders = SimpleNamespace(sampler=range(7))
    return made


MODULE = Mock(spec=pl.LightningModule, max_steps=20, last_loss=1.5)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stage(lines: list[str], clock: Clock | None = None) -> StageProgress:
    progress = StageProgress(Progress(lines.append, clock=clock or Clock(), terminal=False), "lm")
    progress.on_train_start(trainer(0), MODULE)
    return progress


def test_ten_lines_a_stage_however_many_batches_make_a_step() -> None:
    """20 steps of two batches each: steps 2, 4, ..., 20, each once; nothing at step 0."""
    lines: list[str] = []
    progress = stage(lines)
    for batch in range(1, 41):
        progress.on_train_batch_end(trainer(batch // 2), MODULE, None, None, batch)
    assert lines == [f"lm  step {step}/20  loss 1.5000  0 s" for step in range(2, 21, 2)]


def test_a_slow_stage_is_told_of_between_its_tenths() -> None:
    """A step takes 8 s: after 16 s the first tenth; then a line wherever 20 s went by without one."""
    lines, clock = list[str](), Clock()
    progress = StageProgress(Progress(lines.append, clock=clock, terminal=False), "lm")
    progress.on_train_start(trainer(0), Mock(spec=pl.LightningModule, max_steps=100, last_loss=1.5))
    for step in range(1, 13):
        clock.now = 8.0 * step
        progress.on_train_batch_end(
            trainer(step), Mock(spec=pl.LightningModule, max_steps=100, last_loss=1.5), None, None, step
        )
    assert [line.split()[2] for line in lines] == ["3/100", "6/100", "9/100", "10/100"]


def test_a_long_validation_is_told_of() -> None:
    lines, clock = list[str](), Clock()
    progress = stage(lines, clock)
    clock.now = 25.0
    progress.on_validation_batch_end(trainer(1), MODULE, None, None, 0)
    assert lines == ["lm  step 1/20  loss 1.5000  25 s"]


def test_scores_worth_a_line() -> None:
    lines: list[str] = []
    progress = stage(lines)
    progress.shown = ("loss", "brier_lm")
    progress.on_validation_end(trainer(3, units=9.0), MODULE)
    progress.on_validation_end(trainer(3, loss=0.25, brier_lm=1.5, units=9.0), MODULE)
    assert lines == ["lm  held out: loss 0.25  brier_lm 1.5"]


def test_an_evaluation_counts_its_rows(tmp_path: Path) -> None:
    lines, clock, file = list[str](), Clock(), tmp_path / "p.json"
    told = Progress(lines.append, StandingFile(file, clock), clock=clock, terminal=False)
    progress = RowsProgress(told, "evaluation")
    progress.on_validation_start(trainer(0), MODULE)
    for number, rows in enumerate((4, 3), start=1):
        clock.now = 15.0 * number
        progress.on_validation_batch_end(
            trainer(0),
            MODULE,
            None,
            Batch(torch.zeros(rows, 2, 2), torch.ones(rows, 2, dtype=torch.bool)),
            number,
        )
    progress.on_validation_end(trainer(0), MODULE)
    assert lines == ["evaluation  row 7/7  30 s"]
    found = read_standing(file)
    assert found is not None
    assert (found.phase, found.done, found.total) == ("evaluation", 7, 7)


def test_other_processes_say_and_write_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    lines, file = list[str](), tmp_path / "p.json"
    progress = Progress(lines.append, StandingFile(file), terminal=False)
    with progress.phase("lm", unit="step", total=2) as phase:
        phase.at(2)
        phase.scored({"loss": 1.0})
    assert lines == []
    assert not file.exists()


def test_a_phase_without_parts_is_told_as_it_begins() -> None:
    """It has no steps at which to tell that it takes long; one with parts is silent while it is short."""
    lines = list[str]()
    progress = Progress(lines.append, clock=Clock(), terminal=False)
    with progress.phase("timing the sampler"):
        assert lines == ["timing the sampler"]
    with progress.phase("checking", unit="cell", total=2) as phase:
        phase.at(2)
    assert lines == ["timing the sampler"]


def test_a_bar_in_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda terminal=terminal: terminal))
        assert Progress(print).terminal is terminal
    assert not Progress.silent().terminal


def test_the_bar_counts_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", lambda **settings: console)
    progress = StageProgress(Progress(terminal=True), "lm")
    progress.on_train_start(trainer(0), MODULE)
    assert progress.phase is not None
    shown = progress.phase._shown
    assert isinstance(shown, Bar)
    progress.on_train_batch_end(trainer(7), MODULE, None, None, 0)
    progress.on_validation_end(trainer(7, loss=0.25), MODULE)
    (task,) = shown.bar.tasks
    assert (task.completed, task.total) == (7, 20)
    assert task.fields["told"] == "loss 1.5000  held out: loss 0.25"
    progress.on_train_end(trainer(20), MODULE)
    progress.on_exception(trainer(20), MODULE, ValueError())  # nothing is left to end
    assert "step 7/20" in screen.getvalue()


def test_reading_text_is_told_in_phases() -> None:
    """Each reading has a line that it begins, and one where it takes long."""
    lines, clock = list[str](), Clock()
    with preparing(Progress(lines.append, clock=clock, terminal=False)) as told:
        told("tokenizer", 0, 0, 4_000_000)
        clock.now = 21.0
        told("tokenizer", 1024, 2_000_000, 4_000_000)
        told("learning", 2048, 4_100_000, 4_000_000)
        told("train", 0, 0, None)
        clock.now = 42.0
        told("train", 1024, 2_000_000, None)
    assert lines == [
        "reading text for the tokenizer",
        "reading text for the tokenizer  1,024 documents, 2.0 of about 4.0 MB  21 s",
        "the tokenizer learns from it",
        "tokenising the training text",
        "tokenising the training text  1,024 documents, 2.0 MB  21 s",
    ]
