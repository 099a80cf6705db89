"""What a person sees, by hand: which lines come, and a bar that moves."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import lightning.pytorch as pl
import pytest
import torch
from rich.console import Console

from calmkit.training.progress import BarProgress, PlainProgress, progress_callback


def trainer(step: int, **scores: float) -> Any:
    metrics = {f"lm/val/{name}": torch.tensor(value) for name, value in scores.items()}
    made = Mock(spec=pl.Trainer)
    made.global_step, made.is_global_zero, made.callback_metrics = step, True, metrics
    return made


MODULE = Mock(spec=pl.LightningModule, max_steps=20, last_loss=1.5)


def test_ten_lines_a_stage_however_many_batches_make_a_step() -> None:
    """20 steps of two batches each: steps 2, 4, ..., 20, each once; nothing at step 0."""
    lines: list[str] = []
    progress = PlainProgress(lines.append, "lm")
    for batch in range(1, 41):
        progress.on_train_batch_end(trainer(batch // 2), MODULE, None, None, batch)
    assert [line.split()[2] for line in lines] == [f"{step}/20" for step in range(2, 21, 2)]
    assert lines[0].startswith("lm  step 2/20  loss 1.5000  ")


def test_scores_worth_a_line() -> None:
    lines: list[str] = []
    PlainProgress(lines.append, "lm").on_validation_end(
        trainer(3, loss=0.25, brier_lm=1.5, units=9.0), MODULE
    )
    PlainProgress(lines.append, "lm").on_validation_end(trainer(3, units=9.0), MODULE)
    assert lines == ["lm  held out: loss 0.25  brier_lm 1.5"]


def test_other_processes_say_nothing() -> None:
    lines: list[str] = []
    other = trainer(20, loss=0.25)
    other.is_global_zero = False
    progress = PlainProgress(lines.append, "lm")
    progress.on_train_batch_end(other, MODULE, None, None, 0)
    progress.on_validation_end(other, MODULE)
    assert lines == []


def test_a_bar_in_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, kind in ((True, BarProgress), (False, PlainProgress)):
        monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda terminal=terminal: terminal))
        assert type(progress_callback(print, "lm")) is kind


def test_the_bar_counts_steps() -> None:
    progress, screen = BarProgress("lm"), io.StringIO()
    progress.bar.live.console = Console(file=screen, force_terminal=True, width=120)
    progress.on_train_start(trainer(0), MODULE)
    progress.on_train_batch_end(trainer(7), MODULE, None, None, 0)
    progress.on_validation_end(trainer(7, loss=0.25), MODULE)
    (task,) = progress.bar.tasks
    assert (task.completed, task.total) == (7, 20)
    assert task.fields["told"] == "loss 1.5000  held out: loss 0.25"
    progress.on_train_end(trainer(20), MODULE)
    assert "7/20" in screen.getvalue()
