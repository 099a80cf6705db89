"""A loss out of all proportion stops a run before its step, and what was before is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import TINY, go_on, small_run, stopped, workshop

from calmkit.training.errors import TrainingDiverged
from calmkit.training.explosion import FEWEST, WINDOW, LossWatch
from calmkit.training.resume import Wishes
from calmkit.training.snapshots import newest_snapshot, stage_folder
from calmkit.training.stages import ModelModule


def watch(losses: list[float], factor: float | None = 10.0) -> LossWatch:
    found = LossWatch(factor)
    for loss in losses:
        found.add(loss)
    return found


def test_the_limit_by_hand() -> None:
    """20 losses from 1.0 to 2.9: 2.9 + 10 x 1.9."""
    losses = [1 + k / 10 for k in range(FEWEST)]
    assert watch(losses).limit() == pytest.approx(2.9 + 19)
    assert watch(losses, None).limit() == float("inf")
    assert watch(losses[1:]).limit() == float("inf")


def test_losses_that_hardly_differ_leave_room_and_may_be_negative() -> None:
    assert watch([-4.0] * FEWEST).limit() == pytest.approx(-4 + 10 * 0.004)


def test_only_the_last_hundred_count() -> None:
    assert watch([1000.0] + [1.0, 2.0] * (WINDOW // 2)).limit() == pytest.approx(2 + 10)


def test_losses_that_fall_steeply_or_jump_by_their_range_go_on() -> None:
    found = LossWatch(100.0)
    for step in range(300):
        loss = 50 / (1 + step) + (3 if step % 37 == 0 else 0)
        assert loss <= found.limit()
        found.add(loss)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def test_a_run_stops_before_the_step_and_goes_on_without_the_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses that are compared outlive a stop: the one of step 24 is judged by those of 0 to 23."""
    loss, run = ModelModule.training_step, folder / "run"

    def explodes(self: ModelModule, batch: Any, batch_idx: int) -> Any:
        if self.keeping.rows_at(self.global_step) == 24 * 8:  # type: ignore[union-attr]
            self.checked(torch.tensor(1e6))
        return loss(self, batch, batch_idx)

    monkeypatch.setattr(ModelModule, "training_step", explodes)
    words = (*TINY, "stages.lm.max_steps=26", "stages.lm.eval_every=26")
    stopped(small_run, "lm", 15, folder, str(run), *words)
    with pytest.raises(TrainingDiverged, match=r"(?s)rose to 1e\+06 at step 24 of 26.*Step 24 .* is kept"):
        go_on(run)
    kept = newest_snapshot(stage_folder(run, "lm"), pytest.fail)
    assert kept is not None
    assert (kept.step, len(kept.plain["last_losses"])) == (24, 24)
    go_on(run, wishes=Wishes(skip_batch=True))
    again = newest_snapshot(stage_folder(run, "lm"), pytest.fail)
    assert again is not None
    assert (again.step, again.rows) == (26, 27 * 8)


def test_who_lets_it_rise_is_not_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.training.explosion.FEWEST", 1)
    monkeypatch.setattr(LossWatch, "add", lambda self, loss: self._losses.append(-9e9))
    with pytest.raises(TrainingDiverged, match=r"trainer\.explosion lets it rise to"):
        small_run(folder, "one", *TINY)
    small_run(folder, "two", *TINY, "trainer.explosion=null")


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)
