"""begun_with: which weights of other runs a run was begun with, told by their checksums in its lock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from calmkit.recipe.objectives import build_objective
from calmkit.recipe.runs_named import runs_named
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run
from calmkit.training.snapshots import file_digest

KEY = "runs"


def weights_named(recipe: Recipe, manager: Manager) -> dict[str, str]:
    """Key of a recipe that names a run -> SHA-256 of the file of that run's weights.

    Raises:
        RunFailed: A run has none.
    """
    return {key: _digest(key, Path(said)) for key, said in runs_named(recipe, manager).items()}


def check_same_runs(run: Run, recipe: Recipe, manager: Manager) -> None:
    """Refuse to go on with a run whose objective asks others than those that it began with.

    Raises:
        RunFailed: The weights of one are gone, or others now.
    """
    told = run.lock.get(KEY)
    if recipe.stages.lm is None or not isinstance(told, Mapping):
        return
    if not build_objective(recipe, manager).runs:
        return
    for key, now in weights_named(recipe, manager).items():
        if told.get(key, now) != now:
            raise RunFailed(
                f"The weights of the run that {key} names changed since {run.folder} began: their SHA-256 "
                f"was {told[key]}, and is {now} now. Bring them back, or begin a new run with --out."
            )


def _digest(key: str, folder: Path) -> str:
    try:
        return file_digest(Run(folder).weights)
    except OSError as error:
        raise RunFailed(
            f"{key}: the weights of {folder} can't be read ({error.strerror}); name a run that was trained."
        ) from error
