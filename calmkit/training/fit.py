"""fit_stage: one stage through Lightning's trainer; what is trained so far survives a failure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from calmkit.interfaces import DataError, DataKind, Prepared
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.callbacks import StageProgress
from calmkit.training.checkpoints import MovedCheckpoints, check_disk, not_written, save_weights
from calmkit.training.errors import RunFailed, TrainingDiverged
from calmkit.training.progress import Progress, Say
from calmkit.training.run import Run, is_rank_zero
from calmkit.training.stages import StageModule
from calmkit.training.trainer import interrupts, make_trainer


@dataclass(frozen=True)
class Session:
    """What the steps of one training share."""

    recipe: Recipe
    manager: Manager
    run: Run
    kind: DataKind
    prepared: Prepared
    loggers: list[Any]
    say: Say
    progress: Progress = field(default_factory=Progress.silent)


def fit_stage(
    session: Session,
    module: StageModule,
    data: pl.LightningDataModule,
    label: str,
    eval_every: int,
    extra: Sequence[pl.Callback] = (),
) -> tuple[pl.Trainer, float]:
    """Fit one stage; what is trained so far survives a failure."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    recipe, settings, folder = session.recipe, session.recipe.trainer, session.run.folder
    if is_rank_zero():
        check_disk(folder, module)
    clock = TrainingClock()
    keep = ModelCheckpoint(
        dirpath=folder / "checkpoints" / label,
        filename="last",
        save_top_k=1,
        every_n_train_steps=min(eval_every, module.max_steps),
        enable_version_counter=False,
    )
    trainer = make_trainer(
        recipe,
        max_steps=module.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=settings.accumulate,
        val_check_interval=min(eval_every, module.max_steps) * settings.accumulate,
        check_val_every_n_epoch=None,
        log_every_n_steps=settings.log_every,
        logger=session.loggers,
        callbacks=[StageProgress(session.progress, label, session.kind.words.shown), *extra, keep, clock],
        plugins=[MovedCheckpoints()],
        enable_checkpointing=True,
        default_root_dir=folder,
    )
    try:
        with interrupts():
            trainer.fit(module, datamodule=data)
    except TrainingDiverged as error:
        raise TrainingDiverged(f"{error}\n  {_keep(session, trainer, module, label)}", folder) from error
    except OSError as error:  # a logger's file
        failed = not_written(Path(error.filename or folder / "metrics.csv"), error)
        raise RunFailed(f"{failed}\n  {_keep(session, trainer, module, label)}") from error
    except (RunFailed, DataError):
        raise
    except BaseException:
        session.say(_keep(session, trainer, module, label))
        raise
    if trainer.global_step < module.max_steps:
        raise RunFailed(f"Stage {label} stopped at step {trainer.global_step} of {module.max_steps}.", folder)
    return trainer, clock.seconds


def _keep(session: Session, trainer: pl.Trainer, module: StageModule, label: str) -> str:
    """Save the weights of a stage that did not end, and say where; before its first step there are none."""
    if not trainer.global_step:
        return f"no step of stage {label} was taken, so nothing of it is kept"
    step = f"weights of step {trainer.global_step}"
    if not all(bool(p.isfinite().all()) for p in module.parameters()):
        return f"{step} are not finite either; earlier ones may be in {session.run.folder / 'checkpoints'}"
    path = session.run.folder / "checkpoints" / f"{label}-unfinished.safetensors"
    if is_rank_zero():
        save_weights(path, module)
    return f"{step}: {path}"


class TrainingClock(pl.Callback):
    """Seconds of training proper: a stage's wall time without its validations."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        del trainer, pl_module
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pause."""
        del trainer, pl_module
        self.seconds += time.perf_counter() - self._since

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on."""
        del trainer, pl_module
        self._since = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        del trainer, pl_module
        self.seconds += time.perf_counter() - self._since
