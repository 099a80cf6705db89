"""going_on: a run folder is taken up again, by its own recipe and the few settings that may change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calmkit.recipe.dump import as_dict, flat
from calmkit.recipe.load import to_yaml
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.checkpoints import write_text
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run, is_rank_zero
from calmkit.training.run_folder import RESOLVED

MAY_CHANGE = (
    "description",
    "evaluation",
    "loggers",
    "sampler",
    "trainer",
    *(
        f"stages.{stage}.{name}"
        for stage in ("autoencoder", "lm")
        for name in ("max_steps", "batch_size", "eval_every", "eval_rows", "gate")
    ),
)
"""What may change where a run goes on: the rows come in the same order, and the same model learns."""

MAY_NOT = ("trainer.ema",)


def recipe_to_go_on(folder: Path, overrides: Sequence[str], manager: Manager) -> Recipe:
    """The recipe of a run, with what may change on the way.

    Raises:
        RunFailed: The folder is no run, or a setting may not change.
    """
    run = Run(folder)
    recipe = run.recipe(manager, overrides)
    before, now = (flat(as_dict(one)) for one in (run.recipe(manager), recipe))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    refused = [key for key in changed if _under(key, MAY_NOT) or not _under(key, MAY_CHANGE)]
    if refused:
        raise RunFailed(
            f"{folder} can't go on with another {refused[0]}: it would be another run. Train one with --out, "
            f"and with stages.lm.init_from={folder} where its weights shall be the first. What may change: "
            f"{', '.join(MAY_CHANGE[:5])}, and steps, batch sizes and evaluation of the stages."
        )
    return recipe


def go_on(folder: Path, recipe: Recipe, fingerprint: str) -> Run:
    """Take a run folder up again.

    Args:
        folder: Of the run.
        recipe: Of `recipe_to_go_on`; it is the run's recipe from now on.
        fingerprint: Of the data, as they are now.

    Raises:
        RunFailed: The data are others than those that the run began with.
    """
    run = Run(folder)
    known = run.lock.get("data")
    if known is not None and known != fingerprint:
        raise RunFailed(
            f"The data of {folder} changed since it began: their fingerprint was {known}, and is "
            f"{fingerprint} now. Bring them back, or begin a new run with --out."
        )
    if is_rank_zero():
        write_text(folder / RESOLVED, to_yaml(recipe))
    return run


def _under(key: str, leads: Sequence[str]) -> bool:
    return any(key == lead or key.startswith(f"{lead}.") for lead in leads)
