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
from calmkit.training.exported import is_exported
from calmkit.training.resume import stage_began
from calmkit.training.run import Run, is_rank_zero
from calmkit.training.run_folder import RESOLVED, sweep_temporary

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
FIRST_STEPS = "stages.autoencoder.max_steps"


def recipe_to_go_on(folder: Path, overrides: Sequence[str], manager: Manager) -> Recipe:
    """The recipe of a run, with what may change on the way.

    Raises:
        RunFailed: The folder is no run, or an exported one, or a setting may not change.
    """
    run = Run(folder)
    if is_exported(folder):
        raise RunFailed(
            f"{folder} was exported, and holds no checkpoint to go on from. stages.autoencoder.init_from="
            f"{folder} stages.lm.init_from={folder} let a recipe begin with its weights."
        )
    recipe = run.recipe(manager, overrides)
    before, now = (flat(as_dict(one)) for one in (run.recipe(manager), recipe))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if FIRST_STEPS in changed and stage_began(run.folder, "lm"):
        raise RunFailed(
            f"{folder} can't go on with another {FIRST_STEPS}: stage 2 rests on the autoencoder as it is. "
            "Train another run with --out."
        )
    refused = [key for key in changed if _under(key, MAY_NOT) or not _under(key, MAY_CHANGE)]
    if refused:
        raise RunFailed(
            f"{folder} can't go on with another {refused[0]}: it would be another run. Train one with --out, "
            f"and with stages.lm.init_from={folder} where its weights shall be the first. What may change: "
            f"{', '.join(MAY_CHANGE[:5])}, and steps, batch sizes and evaluation of the stages."
        )
    return recipe


def told_that_it_is_done(folder: Path, recipe: Recipe) -> str:
    """What to say of a run that has nothing left to do, and how it would be trained for longer."""
    lm, first = recipe.stages.lm, recipe.stages.autoencoder
    stage, steps = (
        ("lm", lm.max_steps) if lm is not None else ("autoencoder", first.max_steps if first else 0)
    )
    measured = f", `calmkit eval {folder}` measures it anew" if lm is not None else ""
    return (
        f"{folder} is done: stage {stage} took its {steps:,} steps. Nothing was changed. `calmkit train "
        f"{folder} stages.{stage}.max_steps={2 * steps}` trains it for longer{measured}."
    )


def go_on(run: Run, recipe: Recipe, fingerprint: str) -> None:
    """Take a run folder up again.

    Args:
        run: The run.
        recipe: Of `recipe_to_go_on`; it is the run's recipe from now on.
        fingerprint: Of the data, as they are now.

    Raises:
        RunFailed: The data are others than those that the run began with.
    """
    known = run.lock.get("data")
    if known is not None and known != fingerprint:
        raise RunFailed(
            f"The data of {run.folder} changed since it began: their fingerprint was {known}, and is "
            f"{fingerprint} now. Bring them back, or begin a new run with --out."
        )
    if is_rank_zero():
        sweep_temporary(run.folder)
        write_text(run.folder / RESOLVED, to_yaml(recipe))


def _under(key: str, leads: Sequence[str]) -> bool:
    return any(key == lead or key.startswith(f"{lead}.") for lead in leads)
