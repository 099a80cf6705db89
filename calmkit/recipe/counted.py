"""counted: models whose FLOPs are counted before they have numbers, and those of what an objective asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from calmkit.metrics.flops import states_flops
from calmkit.model import CalmModel
from calmkit.recipe.assemble import model_of_shapes, sizes_of
from calmkit.recipe.objectives import build_objective, objective_flops, recipe_of_run, runs_asked
from calmkit.recipe.parts import build_part, build_transform, kind_of, refusals
from calmkit.recipe.schema import OBJECTIVE, Recipe
from calmkit.recipe.some_parts import freeze_parts
from calmkit.registry import Manager

MEASURED = ("autoencoder", "embedder", "backbone", "head", "transform")
"""Parts whose cost is counted; conditioners are small."""


def build_what_is_measured(
    model: CalmModel, recipe: Recipe, manager: Manager, known: Mapping[str, Any]
) -> None:
    """Real ones in the place of the parts that state nothing; no random number of the caller is used up."""
    sizes = sizes_of(model.autoencoder, model.backbone, model.event, known)
    if model.layout is not None:
        sizes["layout"] = model.layout
    for section, part in list(model.named_children()):
        if section in MEASURED and not states_flops(part):
            with torch.random.fork_rng(devices=[]):
                if section == "transform":
                    model.transform = build_transform(recipe, manager, model.autoencoder)
                else:
                    setattr(model, section, build_part(recipe, manager, section, **sizes))
    freeze_parts(recipe, model)


def asked_flops(recipe: Recipe, manager: Manager, model: CalmModel, units: int) -> dict[str, int]:
    """What the objective of stage 2 costs on a row beside the model, as `objective`; nothing where it asks no
    other run.
    """
    if recipe.stages.lm is None:
        return {}
    objective, models = build_objective(recipe, manager), dict[str, CalmModel]()
    for name, run in runs_asked(recipe, objective).items():
        other = recipe_of_run(recipe, str(run), manager)
        models[name] = model_of_shapes(other, manager)
        build_what_is_measured(
            models[name], other, manager, kind_of(other, manager).known_sizes(other, manager)
        )
        models[name].requires_grad_(False)  # as in training, whatever learned there
    if not models:
        return {}
    with refusals(recipe, OBJECTIVE, recipe.stages.lm.objective):
        return {"objective": objective_flops(objective, model, models, units)}
