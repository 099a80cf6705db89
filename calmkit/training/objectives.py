"""objectives: that of a run, with the models of other runs and the reward that it asks, and their cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calmkit.interfaces import DataKind, Objective
from calmkit.model import CalmModel
from calmkit.objectives.drawn import same_values
from calmkit.recipe.objectives import build_objective, objective_flops, runs_asked
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.errors import RunFailed
from calmkit.training.fit import Session
from calmkit.training.run import load_run


def ready_objective(session: Session, model: CalmModel) -> Objective:
    """The objective of stage 2 with all that it asks; models of other runs are frozen, and stay on the CPU
    until it asks them.

    Raises:
        RunFailed: Another run rests on another autoencoder, or can't be read.
    """
    objective = measuring_objective(session.recipe, session.kind, session.manager, session.prepared)
    models: dict[str, CalmModel] = {}
    for name, run in runs_asked(session.recipe, objective).items():
        folder = Path(str(run))
        other: CalmModel = load_run(folder, session.manager, device="cpu").model
        models[name] = other.eval().requires_grad_(False)
        has_weights = any(True for _ in other.autoencoder.parameters())
        if has_weights and not same_values(model, other):
            raise RunFailed(
                f"{folder}, the {name} of the objective '{_name(session.recipe)}', rests on another "
                f"autoencoder than this run's; take it from there too: stages.autoencoder.init_from={folder}",
                session.run.folder,
            )
        session.say(f"objective {_name(session.recipe)}: its {name} is the model of {folder}")
    objective.begin(models, objective.judge)
    return objective


def measuring_objective(recipe: Recipe, kind: DataKind, manager: Manager, kept: Any) -> Objective:
    """The objective of stage 2 with its reward, and without other runs: what `Objective.measured` needs.

    Args:
        recipe: With a stage 2.
        kind: Of its data.
        manager: Where parts are looked up.
        kept: What the kind prepared, or restored.
    """
    objective = build_objective(recipe, manager)
    objective.begin({}, None if objective.reward is None else kind.reward(objective.reward, kept))
    return objective


def objective_cost(objective: Objective, model: CalmModel, units: int) -> dict[str, int]:
    """FLOPs of a row of training beside the model, as `objective`; nothing where no other run is asked.

    Raises:
        RunFailed: No formula tells them.
    """
    if not objective.models:
        return {}
    try:
        return {"objective": objective_flops(objective, model, objective.models, units)}
    except ValueError as error:
        raise RunFailed(f"What the objective costs can't be told: {error}.") from error


def _name(recipe: Recipe) -> str:
    assert recipe.stages.lm is not None
    return recipe.stages.lm.objective.name
