"""fit_stage: one stage through Lightning's trainer; what is trained so far survives whatever ends it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from calmkit.interfaces import DataError, DataKind, Prepared
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.callbacks import StageProgress
from calmkit.training.checkpoints import check_disk, not_written
from calmkit.training.clock import TrainingClock
from calmkit.training.errors import RunFailed, Stopped, TrainingDiverged
from calmkit.training.explosion import LossWatch
from calmkit.training.keeping import Keeping
from calmkit.training.layers import trained_layers
from calmkit.training.loggers import keep_all
from calmkit.training.progress import Progress, Say
from calmkit.training.resume import Resumed, batch_digest, check_next_batch
from calmkit.training.run import Run, is_rank_zero
from calmkit.training.sharding import FSDP2, whole_state
from calmkit.training.snapshots import PATTERN, Snapshot, step_of
from calmkit.training.stages import StageModule
from calmkit.training.stopping import StopRequest
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
    request: StopRequest = field(default_factory=StopRequest)
    resumed: Resumed = field(default_factory=Resumed)


def fit_stage(
    session: Session,
    module: StageModule,
    data: Any,
    label: str,
    eval_every: int,
    extra: Sequence[pl.Callback] = (),
    *,
    validate_last: bool = False,
) -> tuple[pl.Trainer, float]:
    """Fit one stage, from its beginning or from where it stopped.

    Args:
        session: Of the run.
        module: The stage.
        data: Its rows, of `Prepared.rows`.
        label: Its name.
        eval_every: Steps between two validations.
        extra: Callbacks.
        validate_last: The weights are measured once more behind the last step.

    Returns:
        The trainer, and the seconds of training proper.

    Raises:
        TrainingDiverged: The loss or a gradient became no number.
        Stopped: A signal asked for it, and where it stood is kept.
        RunFailed: A file could not be written.
    """
    folder, settings = session.run.folder, session.recipe.trainer
    if is_rank_zero():
        check_disk(folder, module, settings.checkpoint.keep)
    clock, module.watch = TrainingClock(), LossWatch(settings.explosion)
    keeping = _keeping(session, module, data, label, min(eval_every, module.max_steps), clock)
    unsharded = copy.deepcopy(module.trained) if settings.strategy == FSDP2 else None
    trainer = make_trainer(
        session.recipe,
        fits=True,
        max_steps=module.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=settings.accumulate,
        val_check_interval=keeping.eval_every * settings.accumulate,
        check_val_every_n_epoch=None,
        log_every_n_steps=settings.log_every,
        logger=session.loggers,
        callbacks=[
            StageProgress(session.progress, label, session.kind.words.shown),
            keeping,  # before the average, which takes the place of the weights in a validation
            *extra,
            clock,
        ],
        default_root_dir=folder,
    )
    try:
        with (
            interrupts(),
            trained_layers(
                module.trained,
                recompute=settings.activation_checkpointing,
                compiled=settings.compile,
            ),
        ):
            trainer.fit(module, datamodule=data)
            if validate_last and trainer.global_step >= module.max_steps:
                trainer.validate(module, datamodule=data, verbose=False)
    except TrainingDiverged as error:
        told = _diverged(session, label, keeping, trainer.global_step)
        raise TrainingDiverged(f"{error}\n  {told}", folder) from error
    except OSError as error:  # a logger's file
        failed = not_written(Path(error.filename or folder / "metrics.csv"), error)
        raise RunFailed(f"{failed}\n  {_kept(session, label, keeping)}") from error
    except (Stopped, DataError):
        raise
    except RunFailed as error:
        raise RunFailed(f"{error}\n  {_kept(session, label, keeping)}", error.folder) from error
    except BaseException:
        session.say(_kept(session, label, keeping))
        raise
    finally:
        session.request.listen()
    if trainer.global_step < module.max_steps:
        raise RunFailed(f"Stage {label} stopped at step {trainer.global_step} of {module.max_steps}.", folder)
    keep_all(session.loggers)
    if unsharded is not None:
        unsharded.load_state_dict(whole_state(module.trained))
        module.put(unsharded)
    if session.request.code:
        raise Stopped(
            f"Stopped behind stage {label}. `calmkit train {folder}` goes on.", session.request.code
        )
    return trainer, clock.seconds


def _keeping(
    session: Session, module: StageModule, data: Any, label: str, eval_every: int, clock: TrainingClock
) -> Keeping:
    """The callback that saves a stage; tells where it goes on."""
    settings, resumed = session.recipe.trainer, session.resumed
    processes = make_trainer(session.recipe).world_size
    rows, begin = data.batch_size * settings.accumulate * processes, resumed.snapshots.get(label)
    data.workers, first_row, lr_scale = settings.workers, 0, 1.0
    if begin is not None:
        skipped, lr_scale = rows if resumed.wishes.skip_batch else 0, resumed.wishes.lr_scale
        first_row = begin.rows + skipped
        coming = data.rows_at(first_row, rows)
        digest = batch_digest(coming)
        check_next_batch(begin, skipped, rows, digest)
        session.say(
            f"stage {label} goes on at step {begin.step:,} of {module.max_steps:,}: resumed at unit "
            f"{first_row * coming.valid.shape[1]:,}; next batch sha256 {digest}"
        )
        for line in _changes(begin, rows, processes, lr_scale, skipped):
            session.say(line)
    data.begin(first_row)
    return Keeping(
        session.run.folder,
        label,
        settings.checkpoint,
        eval_every=eval_every,
        data=data,
        rows_per_step=rows,
        clock=clock,
        request=session.request,
        begin=begin,
        first_row=first_row,
        lr_scale=lr_scale,
        stop_at=resumed.stop_at(label),
    )


def _changes(begin: Snapshot, rows: int, processes: int, lr_scale: float, skipped: int) -> Iterator[str]:
    """What is not as it was before a stage stopped."""
    before = begin.plain["next_batch"]["rows"]
    if rows != before:
        yield f"changed: a step sees {rows:,} rows, before {before:,}"
    if processes != begin.plain["processes"]:
        before = begin.plain["processes"]
        yield f"changed: {processes} processes, before {before}; a new one draws noise of its own"
    if skipped:
        yield f"changed: {skipped:,} rows are left out"
    if lr_scale != 1:
        yield f"changed: the learning rate is {lr_scale:g} of what it was"


def _kept(session: Session, label: str, keeping: Keeping) -> str:
    """What there is of a stage that did not end, and how it goes on."""
    step = keeping.kept_step
    if step is None:
        return f"nothing of stage {label} is kept yet; `calmkit train {session.run.folder}` begins it"
    return f"step {step:,} of stage {label} is kept; `calmkit train {session.run.folder}` goes on"


def _from_before(keeping: Keeping) -> str:
    """What helps where going on from a checkpoint fails at once."""
    steps = sorted(step_of(path) for path in keeping.folder.glob(PATTERN))
    here, before = keeping.first_step, [step for step in steps if step < keeping.first_step]
    broken = f" It was gone on with from step {here:,} itself, so its weights may be broken already:"
    if not before:
        return f"{broken} no step before it is kept."
    return f"{broken} without {keeping.folder}/step-{here:08d}.json it goes on from step {before[-1]:,}."


def _diverged(session: Session, label: str, keeping: Keeping, step: int) -> str:
    again, kept = f"calmkit train {session.run.folder}", keeping.kept_step
    where = f"Its batch begins at row {keeping.rows_at(step):,} of the training stream."
    lower = f"`{again} --lr-scale 0.5` goes on with half the learning rate"
    if kept == step:
        cures = f"`{again} --skip-batch` leaves the batch out, {lower}"
        told = f"{where} Step {step:,} of stage {label}, before it, is kept: {cures}."
        return told + (
            _from_before(keeping) if keeping.begin is not None and kept == keeping.first_step else ""
        )
    if kept is None:
        return f"{where} The weights before it are not finite either, and no others of {label} are kept."
    return f"{where} The last weights that were finite and are kept are those of step {kept:,}: {lower}."
