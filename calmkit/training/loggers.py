"""Loggers by name: `metrics.csv`, and the diaries of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from calmkit.recipe.dump import as_dict
from calmkit.recipe.load import to_yaml
from calmkit.recipe.loggers import KNOWN
from calmkit.recipe.schema import Recipe
from calmkit.training.diaries.diary import About, Diary, GoesOn
from calmkit.training.diaries.mlflow import MlflowDiary
from calmkit.training.diaries.tensorboard import TensorBoardDiary
from calmkit.training.diaries.trackio import TrackioDiary
from calmkit.training.diaries.wandb import WandbDiary
from calmkit.training.diary_logger import DiaryLogger
from calmkit.training.errors import Stopped
from calmkit.training.metrics_file import MetricsFile
from calmkit.training.run import Run, is_rank_zero

DIARIES: Mapping[str, Callable[[Any], Diary]] = {
    "tensorboard": TensorBoardDiary,
    "wandb": WandbDiary,
    "mlflow": MlflowDiary,
    "trackio": TrackioDiary,
}


def make_loggers(recipe: Recipe, folder: Path, goes_on: GoesOn, say: Callable[[str], None]) -> list[Any]:
    """The loggers of a recipe, none of them open yet.

    Args:
        recipe: Of the run.
        folder: Of the run.
        goes_on: Where each group of metrics goes on.
        say: Takes the line that says that one failed.

    Raises:
        RunFailed: `loggers.json` of the run is damaged.
    """
    about = About(folder.absolute(), recipe.name, as_dict(recipe), to_yaml(recipe), goes_on)
    made: list[Any] = []
    for spec in recipe.loggers:
        if spec.name == "csv":
            made.append(MetricsFile(folder))
        else:
            diary = DIARIES[spec.name](KNOWN[spec.name].cls(**spec.options))
            made.append(DiaryLogger(spec.name, diary, about, say))
    return made


def keep_all(loggers: Sequence[Any]) -> None:
    """What was logged so far is about to be kept."""
    for logger in loggers:
        logger.save()
        if isinstance(logger, DiaryLogger):
            logger.keep()


def finish_all(loggers: Sequence[Any], run: Run, recipe: Recipe) -> None:
    """Give all loggers the numbers of the end: those of `evaluation.json`, or of an autoencoder alone."""
    for logger in loggers:
        logger.finalize("success")
    diaries = [logger for logger in loggers if isinstance(logger, DiaryLogger)]
    if not diaries or not is_rank_zero():  # the first process alone has measured
        return
    lm, first = recipe.stages.lm, recipe.stages.autoencoder
    if lm is not None:
        found, step = run.evaluation, lm.max_steps
    else:
        there = (run.folder / "model" / "config.json").exists()  # not where there was nothing to train
        reconstruction = run.facts.get("reconstruction", {}) if there else {}
        found = {f"reconstruction_{name}": value for name, value in reconstruction.items()}
        step = first.max_steps if first is not None else 0
    numbers = {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, Real) and not isinstance(value, bool)
    }
    for logger in diaries:
        logger.finish(numbers, step)


def close_all(loggers: Sequence[Any], error: BaseException | None) -> None:
    """Let go of all diaries, whatever ended the run."""
    ended = "done" if error is None else "failed"
    if isinstance(error, Stopped | KeyboardInterrupt):
        ended = "stopped"
    for logger in loggers:
        if isinstance(logger, DiaryLogger):
            logger.close(ended)
