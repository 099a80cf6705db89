"""again: a run's training repeated, with what was changed on its way changed again, at the same steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.errors import RunFailed, Stopped
from calmkit.training.going_on import recipe_to_go_on
from calmkit.training.legs import KEY, Leg, legs_of
from calmkit.training.new_run import run_folder
from calmkit.training.progress import Say
from calmkit.training.resume import Wishes
from calmkit.training.run import Run
from calmkit.training.train import train
from calmkit.training.trainer import make_trainer


def train_again(run: Run, *, out: Path | None, say: Say, manager: Manager) -> Run:
    """Train a run's recipe again.

    Args:
        run: That ended.
        out: The new run's folder; None: `runs/<name>/<stamp>/`.
        say: Takes each line of what happens.
        manager: Parts.

    Raises:
        RunFailed: As `train`, or the lock's legs can't be read, or it took several processes.
    """
    legs = legs_of(run.lock)
    before: dict[str, Any] = {}
    for leg in reversed(legs):
        before |= {key: values[0] for key, values in leg.changed.items()}
    recipe, wishes, resume = run.recipe(manager, _overrides(before)), Wishes(), False
    _refuse_several_processes(run, legs, before, manager)
    if legs:
        out = run_folder(recipe, out)
    for leg in legs:
        assert out is not None
        _train_until(leg, recipe, out, say, manager, wishes, resume)
        say(f"as then, {leg.told}")
        changed = _overrides({key: values[1] for key, values in leg.changed.items()})
        recipe, wishes, resume = recipe_to_go_on(out, changed, manager), leg.wishes, True
    return train(recipe, out=out, say=say, manager=manager, wishes=wishes, resume=resume)


def _refuse_several_processes(
    run: Run, legs: Sequence[Leg], before: Mapping[str, Any], manager: Manager
) -> None:
    """Processes that Lightning started end with the first leg; they can't be there for a second one."""
    values = dict(before)
    for leg in legs:
        processes = make_trainer(run.recipe(manager, _overrides(values))).world_size
        if processes > 1:
            raise RunFailed(
                f"{run.folder} was changed on its way ({leg.told}) while {processes} processes trained it, "
                "which can't be repeated by one command. By hand: train its recipe with --stop-at "
                f"{leg.stage}:{leg.step}, and go on with what lock.yaml says under {KEY}."
            )
        values |= {key: pair[1] for key, pair in leg.changed.items()}


def _train_until(
    leg: Leg, recipe: Recipe, out: Path, say: Say, manager: Manager, wishes: Wishes, resume: bool
) -> None:
    stop = Wishes(wishes.skip_batch, wishes.lr_scale, stop=(leg.stage, leg.step))
    try:
        train(recipe, out=out, say=say, manager=manager, wishes=stop, resume=resume)
    except Stopped as stopped:
        if not stopped.wished:
            raise


def _overrides(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]
