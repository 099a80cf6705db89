"""Keeping: a stage saves where it stands, stops when it is asked to, and goes on from what was saved."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl

from calmkit.recipe.schema import CheckpointSection
from calmkit.training.clock import TrainingClock
from calmkit.training.errors import Stopped, TrainingDiverged
from calmkit.training.loggers import keep_all
from calmkit.training.metrics_file import MetricsFile
from calmkit.training.resume import batch_digest
from calmkit.training.run import is_rank_zero
from calmkit.training.snapshots import Snapshot, rewrite_snapshot, stage_folder, sweep, write_snapshot
from calmkit.training.state import Randomness, put_state, randomness, take_state, weights_are_finite
from calmkit.training.stopping import REQUEUE, StopRequest


@final
class Keeping(pl.Callback):
    """Snapshots of a stage: every so many steps or minutes, before each validation, at the end, when a signal
    asks for one, and when the loss is no number.

    A snapshot is taken between two steps, when all that a step logs is logged: at the start of the next step,
    of a validation, or of the end. So a run that goes on from a step with a validation makes that one first.

    Args:
        run: The run folder.
        stage: Its name.
        settings: Of the recipe.
        eval_every: Steps between two validations.
        data: Of `Prepared.rows`.
        rows_per_step: Over all batches and processes of a step.
        clock: Its seconds are kept.
        request: Of signals.
        begin: Where the stage goes on; None: it begins.
        first_row: Rows that were seen there, or left out.
        lr_scale: Factor on the learning rate from here on.
        stop_at: The run stops behind this step, as if a signal had asked for it; None: never.
    """

    def __init__(
        self,
        run: Path,
        stage: str,
        settings: CheckpointSection,
        *,
        eval_every: int,
        data: Any,
        rows_per_step: int,
        clock: TrainingClock,
        request: StopRequest,
        begin: Snapshot | None = None,
        first_row: int = 0,
        lr_scale: float = 1.0,
        stop_at: int | None = None,
    ) -> None:
        self.run, self.stage, self.settings = run, stage, settings
        self.eval_every, self.every = eval_every, settings.every or eval_every
        self.data, self.rows_per_step, self.clock, self.request = data, rows_per_step, clock, request
        self.begin, self.stop_at = begin, stop_at
        self.first_step, self.first_row = 0 if begin is None else begin.step, first_row
        self.lr_scale = lr_scale * (1.0 if begin is None else begin.plain["lr_scale"])
        self.kept_step = None if begin is None else begin.step
        self._written = time.monotonic()
        self._random: Randomness | None = None

    @property
    def folder(self) -> Path:
        """Of the snapshots."""
        return stage_folder(self.run, self.stage)

    def rows_at(self, step: int) -> int:
        """Rows that all processes together have seen, or left out, behind a step."""
        return self.first_row + (step - self.first_step) * self.rows_per_step

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Go on from the snapshot; a validation that it still owes comes first."""
        self.request.listen()
        self.request.patient = True
        pl_module.keeping = self
        if is_rank_zero():
            sweep(self.folder)
        for config in trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            scheduler.base_lrs = [self.lr_scale * rate for rate in scheduler.base_lrs]
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= self.lr_scale
        if self.begin is None:
            return
        put_state(trainer, pl_module, self.begin)
        if (self.first_row, self.lr_scale) != (self.begin.rows, self.begin.plain["lr_scale"]):
            wished = replace(
                self.begin, rows=self.first_row, plain={**self.begin.plain, **self._plain(self.first_row)}
            )
            if is_rank_zero():  # what was wished holds from here on, however often the run is killed
                rewrite_snapshot(self.folder, wished)
        self.clock.seconds = self.begin.plain["seconds"]
        if self.first_step and self.first_step % self.eval_every == 0:
            _validate(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Between two steps, unless a step of several batches has begun."""
        del batch, batch_idx
        begun = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
        if begun % trainer.accumulate_grad_batches == 0:
            self._random = randomness()
            step = trainer.global_step
            self._between(trainer, pl_module, due=step > 0 and step % self.every == 0)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Before a validation, which may be long."""
        if trainer.state.fn == "fit":
            self._between(trainer, pl_module, due=True)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """One process alone stops in the middle of a validation; several agree at their next step."""
        del batch, batch_idx, dataloader_idx
        if trainer.state.fn == "fit" and trainer.world_size == 1 and self.request.code:
            self._stop(trainer, pl_module, self.request.code)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Behind the last step."""
        self.request.patient = False
        if self.kept_step != trainer.global_step:
            self._keep(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """A loss that is no number stops a run before the step: what was before is kept, if it is finite."""
        self.request.patient = False
        if isinstance(exception, TrainingDiverged) and self.kept_step != trainer.global_step:
            self._keep(trainer, pl_module, finite_alone=True)

    def asks(self) -> tuple[bool, bool, bool]:
        """Of this process: whether to stop and be started again, to stop for good, to save."""
        minutes = self.settings.minutes
        late = minutes is not None and time.monotonic() - self._written > 60 * minutes
        return self.request.code == REQUEUE, self.request.code not in (0, REQUEUE), late

    def _between(self, trainer: pl.Trainer, module: Any, *, due: bool) -> None:
        step, stop = trainer.global_step, module.agreed.stop
        if trainer.world_size == 1:
            stop = stop or self.request.code
        if self.stop_at is not None and step >= self.stop_at:
            stop = stop or REQUEUE
        if (due or stop or module.agreed.save) and step != self.kept_step:
            self._keep(trainer, module)
        if stop:
            self._stop(trainer, module, stop)

    def _keep(self, trainer: pl.Trainer, module: Any, *, finite_alone: bool = False) -> None:
        for logger in trainer.loggers:
            logger.save()
        rows = self.rows_at(trainer.global_step)
        plain = self._plain(rows) | self._metrics(trainer) | {"seconds": self.clock.so_far()}
        random_state = self._random if finite_alone else None  # of before the step that failed
        snapshot = take_state(trainer, module, self.stage, rows, plain, random_state)
        if finite_alone and not weights_are_finite(snapshot):
            return
        keep_all(trainer.loggers)
        if is_rank_zero():
            write_snapshot(self.folder, snapshot, self.settings.keep)
        self.kept_step, self._written = snapshot.step, time.monotonic()
        module.agreed = replace(module.agreed, save=False)

    def _plain(self, rows: int) -> dict[str, Any]:
        """What comes next, and how."""
        coming = self.data.rows_at(rows, self.rows_per_step)
        return {
            "next_batch": {"rows": self.rows_per_step, "sha256": batch_digest(coming)},
            "lr_scale": self.lr_scale,
        }

    def _metrics(self, trainer: pl.Trainer) -> dict[str, Any]:
        """What is logged so far: also of a run that logs into `metrics.csv` no more."""
        if not is_rank_zero():
            return {"lines": 0, "metrics": ""}
        metrics = next((log for log in trainer.loggers if isinstance(log, MetricsFile)), None)
        metrics = metrics or MetricsFile(self.run)
        return {"lines": metrics.lines, "metrics": metrics.digest()}

    def _stop(self, trainer: pl.Trainer, module: Any, code: int) -> None:
        raise Stopped(
            f"Stopped at step {trainer.global_step:,} of {module.max_steps:,} of stage {self.stage}. "
            f"`calmkit train {self.run}` goes on.",
            code,
            wished=self.stop_at is not None and not (self.request.code or module.agreed.stop),
        )


def _validate(trainer: pl.Trainer) -> None:
    """The validation behind the last step, as Lightning's loop makes it."""
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped -= 1  # it counts a step after its validation
    trainer.validating = True
    first = trainer._logger_connector._first_loop_iter
    loop.val_loop.run()
    trainer.training = True
    trainer._logger_connector._first_loop_iter = first
    loop._batches_that_stepped += 1
