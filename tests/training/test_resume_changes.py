"""What may change where a run goes on: each row comes once, and what makes another run is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import TINY, corpus, go_on, small_run, stopped, tensors, workshop

from calmkit.data.datamodule import RowsDataModule
from calmkit.training.errors import RunFailed, Stopped, TrainingDiverged
from calmkit.training.resume import Wishes
from calmkit.training.run import Run
from calmkit.training.run_folder import held
from calmkit.training.snapshots import newest_snapshot, stage_folder
from calmkit.training.stages import ModelModule


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("resume_changes")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Run:
    """Nobody disturbed it."""
    return small_run(folder, "whole", *TINY)


@pytest.fixture
def rows_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places of stage 2's rows, in the order in which they are trained on."""
    seen: list[int] = []
    rows, step = RowsDataModule.trained_rows, ModelModule.training_step
    places: dict[int, list[int]] = {}

    def read(self: RowsDataModule, wished: list[int]) -> Any:
        batch = rows(self, wished)
        places[id(batch.data)] = list(wished)
        return batch

    def trained(self: ModelModule, batch: Any, batch_idx: int) -> Any:
        seen.extend(places[id(batch.data)])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RowsDataModule, "trained_rows", read)
    monkeypatch.setattr(ModelModule, "training_step", trained)
    return seen


def test_with_another_batch_size_it_says_so_and_every_row_is_read_once(
    folder: Path, tmp_path: Path, rows_seen: list[int]
) -> None:
    """Four steps of 8 rows, two of 2 x 20, two of 5: the same 82 rows as those of 82 / 2 steps of 2."""
    run, words = tmp_path / "run", (*TINY, "stages.autoencoder.max_steps=1")
    stopped(small_run, "lm", 4, folder, str(run), *words)
    said: list[str] = []
    stopped(
        go_on, "lm", 6, run, "stages.lm.batch_size=20", "trainer.accumulate=2", "stages.lm.eval_every=2",
        say=said.append,
    )  # fmt: skip
    assert "changed: a step sees 40 rows, before 8" in said
    said.clear()
    go_on(run, "stages.lm.batch_size=5", "trainer.accumulate=1", say=said.append)
    assert "changed: a step sees 5 rows, before 40" in said
    assert any("resumed at unit 896;" in line for line in said)  # 4 x 8 + 2 x 40 rows of 8 units
    changed, rows_seen[:] = list(rows_seen), []
    small_run(folder, str(tmp_path / "other"), *words, "stages.lm.batch_size=61", "stages.lm.max_steps=2")
    assert len(changed) == 4 * 8 + 2 * 40 + 2 * 5
    assert changed == rows_seen[: len(changed)]
    assert max(Counter(changed).values()) == 1


def broken(monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    """The batch of stage 2 that holds a place of the stream has a loss that is no number."""
    step = ModelModule.training_step

    def breaks(self: ModelModule, batch: Any, batch_idx: int) -> Any:
        if self.keeping.rows_at(self.global_step) == row:  # type: ignore[union-attr]
            self.checked(torch.tensor(float("nan")))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ModelModule, "training_step", breaks)


def test_a_loss_that_is_no_number_stops_it_and_its_batch_may_be_left_out(
    folder: Path, tmp_path: Path, rows_seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 4 sees rows 32 to 39; without them the run ends with rows 0 to 31 and 40 to 71."""
    run = tmp_path / "run"
    broken(monkeypatch, 32)
    with pytest.raises(TrainingDiverged, match=r"(?s)nan at step 4 of 8.*begins at row 32 of .*skip"):
        small_run(folder, str(run), *TINY)
    with pytest.raises(TrainingDiverged, match=r"(?s)Step 4 of stage lm, before it, is kept"):
        go_on(run)
    said: list[str] = []
    go_on(run, wishes=Wishes(skip_batch=True), say=said.append)
    assert "changed: 8 rows are left out" in said
    left_in = rows_seen[:]
    other = small_run(
        folder, str(tmp_path / "other"), *TINY, "stages.lm.max_steps=1", "stages.lm.batch_size=72"
    )
    del other
    stream = rows_seen[len(left_in) :]
    assert left_in == stream[:32] + stream[40:72]


def test_two_batches_in_a_row_may_be_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was left out stays left out, also where the next batch fails before anything is kept."""
    run = tmp_path / "run"
    for row in (32, 40):
        broken(monkeypatch, row)
    begin: list[Any] = [lambda: small_run(folder, str(run), *TINY)]
    begin += [lambda: go_on(run, wishes=Wishes(skip_batch=True))]
    for row, start in zip((32, 40), begin, strict=True):
        with pytest.raises(TrainingDiverged, match=f"begins at row {row} of the training stream"):
            start()
    with pytest.raises(TrainingDiverged, match="begins at row 40 of the training stream"):
        go_on(run)
    go_on(run, wishes=Wishes(skip_batch=True))
    kept = newest_snapshot(stage_folder(run, "lm"), pytest.fail)
    assert kept is not None
    assert (kept.step, kept.rows) == (8, 8 * 8 + 16)


def test_a_lower_learning_rate_holds_from_there_on(folder: Path, tmp_path: Path) -> None:
    """Almost nothing is learned behind it, after another stop too."""
    run = tmp_path / "run"
    stopped(small_run, "lm", 4, folder, str(run), *TINY)
    before = newest_snapshot(stage_folder(run, "lm"), pytest.fail)
    said: list[str] = []
    with pytest.raises(Stopped):
        go_on(run, wishes=Wishes(lr_scale=1e-9, stop=("lm", 6)), say=said.append)
    assert "changed: the learning rate is 1e-09 of what it was" in said
    again = go_on(run)
    after = tensors(again)
    assert before is not None
    for name, value in after.items():
        torch.testing.assert_close(value, before.tensors[f"weights.{name}"], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "override",
    ["seed=2", "head=flow", "backbone.hidden_dim=8", "stages.lm.optimizer.lr=1", "trainer.ema=0.5",
     "data.sequence_length=16", "stages.lm.init_from=x"],
)  # fmt: skip
def test_what_makes_another_run_may_not_change(folder: Path, whole: Run, override: str) -> None:
    resolved = (whole.folder / "resolved.yaml").read_bytes()
    with pytest.raises(RunFailed, match=r"can't go on with another \S+: it would be another run\. .*--out"):
        go_on(whole.folder, override)
    assert (whole.folder / "resolved.yaml").read_bytes() == resolved


def test_data_that_changed_are_refused(folder: Path, tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine.jsonl"
    mine.write_text(corpus())
    stopped(small_run, "lm", 2, folder, str(run), *TINY, f"data.train={mine}")
    mine.write_text(corpus().replace("cat", "dog"))
    with pytest.raises(RunFailed, match=f"The data of {run} changed since it began: their fingerprint was"):
        go_on(run)
    mine.write_text(corpus())
    go_on(run)


def test_a_batch_that_is_not_the_one_that_was_to_come_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of the code that cuts rows."""
    run = tmp_path / "run"
    stopped(small_run, "lm", 2, folder, str(run), *TINY)
    monkeypatch.setattr("calmkit.training.fit.batch_digest", lambda batch: 64 * "0")
    with pytest.raises(RunFailed, match=r"data changed since step 2 of stage lm .* is 000000000000"):
        go_on(run)


def test_a_folder_that_is_being_filled_is_not_gone_on_with(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped(small_run, "lm", 2, folder, str(run), *TINY)
    with held(run), pytest.raises(RunFailed, match="is being filled by another process; wait for it"):
        go_on(run)
