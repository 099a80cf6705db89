"""objectives: that of a recipe, the recipes of the runs that it asks, whether they fit, what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from calmkit.interfaces import PASSES, Objective, UnitwiseAutoencoder
from calmkit.metrics.flops import count_flops
from calmkit.model import CalmModel
from calmkit.recipe.errors import Problem, RecipeError, suggest
from calmkit.recipe.load import load_recipe
from calmkit.recipe.parts import kind_of, refusals
from calmkit.recipe.resolved import RESOLVED
from calmkit.recipe.runs_named import CELL
from calmkit.recipe.schema import OBJECTIVE, Recipe
from calmkit.registry import Manager

OfShapes = Callable[[Recipe, Manager], CalmModel]
"""The model of a recipe on the meta device."""


def build_objective(recipe: Recipe, manager: Manager) -> Objective:
    """The objective of stage 2, before it has what it asks.

    Raises:
        RecipeError: CK145 it refuses its settings.
    """
    assert recipe.stages.lm is not None
    spec = recipe.stages.lm.objective
    with refusals(recipe, OBJECTIVE, spec):
        objective: Objective = manager.build("objectives", spec.name, spec.options)
    return objective


def runs_asked(recipe: Recipe, objective: Objective) -> dict[str, str | None]:
    """Setting of `Objective.runs` -> the run that it means, as a recipe names runs; None: it names none."""
    assert recipe.stages.lm is not None
    said = {name: recipe.stages.lm.objective.options.get(name) for name in objective.runs}
    own = objective.begins_with
    return {name: run or (recipe.stages.lm.init_from if name == own else None) for name, run in said.items()}


def recipe_of_run(recipe: Recipe, run: str, manager: Manager) -> Recipe:
    """The recipe of a run that another recipe names: a folder, or a cell of its study.

    Raises:
        RecipeError: CK100 there is no run.
    """
    if run.startswith(CELL) and run.removeprefix(CELL) in recipe.source.cells:
        return recipe.source.cells[run.removeprefix(CELL)]
    return load_recipe(str(Path(run) / RESOLVED), ["evaluation.metrics=[]"], manager)


def objective_fits(
    recipe: Recipe, manager: Manager, model: CalmModel, of_shapes: OfShapes, *, elsewhere: bool
) -> Iterator[Problem]:
    """CK131 a run that is missing, CK133 a reward that there is not, CK141 a run whose units are others.

    Args:
        recipe: With a stage 2.
        manager: Where parts are looked up.
        model: Of the recipe.
        of_shapes: Makes that of another one.
        elsewhere: The runs may not be on this machine.
    """
    objective = build_objective(recipe, manager)
    spec = recipe.stages.lm.objective if recipe.stages.lm else None
    assert spec is not None
    mark = recipe.source.mark(OBJECTIVE)
    known = kind_of(recipe, manager).rewards
    if objective.reward is not None and objective.reward not in known:
        key = next((f"{OBJECTIVE}.{k}" for k, v in spec.options.items() if v == objective.reward), OBJECTIVE)
        message = f"data '{recipe.data.part.name}' know no reward '{objective.reward}'"
        if not objective.reward:
            message = f"objective '{spec.name}' needs the name of a reward"
        yield Problem(
            "CK133", message, recipe.source.mark(key), key, suggest(objective.reward, known, "rewards")
        )
    if not objective.runs:
        return
    if model.order is not None and model.order.reads == "any":
        message = f"objective '{spec.name}' draws each unit given those before it, and this order is another"
        yield Problem("CK141", message, mark, OBJECTIVE, "order=null, or stages.lm.objective=data")
    if model.transform is not None and model.transform.learned:
        message = (
            f"objective '{spec.name}' needs values that stay, and a transform of this recipe learns them"
        )
        yield Problem(
            "CK141", message, mark, OBJECTIVE, "take that transform out, or stages.lm.objective=data"
        )
    if elsewhere:
        return
    for name, run in runs_asked(recipe, objective).items():
        key = f"{OBJECTIVE}.{name}"
        if run is None:
            or_else = ", or stages.lm.init_from=RUN" if name == objective.begins_with else ""
            message = f"objective '{spec.name}' needs a finished run as its {name}"
            yield Problem("CK131", message, mark, key, f"{key}=RUN{or_else}, the folder of a run")
        elif run.startswith(CELL) or (Path(run) / RESOLVED).is_file():
            yield from _run_fits(recipe, manager, model, key, recipe_of_run(recipe, run, manager), of_shapes)
        elif Path(run).exists():
            message = f"{key}: '{run}' is no run folder: it has no {RESOLVED}"
            yield Problem("CK146", message, recipe.source.mark(key), key, "calmkit ls runs lists runs")


def _run_fits(
    recipe: Recipe, manager: Manager, model: CalmModel, key: str, other: Recipe, of_shapes: OfShapes
) -> Iterator[Problem]:
    """CK141: another run's values are not those of this recipe."""
    mark = recipe.source.mark(key)
    if other.stages.lm is None:
        yield Problem("CK141", f"{key}: that run has no stage 2, so it draws nothing", mark, key)
        return
    if other.tokenizer != recipe.tokenizer:
        yield Problem("CK141", f"{key}: that run's tokenizer is not this recipe's", mark, key)
    if other.autoencoder == recipe.autoencoder and other.transforms == recipe.transforms:
        return
    try:
        theirs = of_shapes(other, manager).autoencoder
    except RecipeError as error:
        yield from error.problems
        return
    if not any(True for _ in theirs.parameters()) and not other.transforms and _same_units(model, theirs):
        return
    differs = [
        f"{name} {there!r}, here {here!r}" for name, there, here in _settings(other, recipe) if there != here
    ]
    message = f"{key}: that run rests on another autoencoder ({'; '.join(differs)})"
    help = "take a run with this recipe's autoencoder and transforms, or one over ids of the same units"
    yield Problem("CK141", message, mark, key, help)


def _settings(there: Recipe, here: Recipe) -> Iterator[tuple[str, object, object]]:
    yield "autoencoder", there.autoencoder.name, here.autoencoder.name
    mine, theirs = here.autoencoder.options, there.autoencoder.options
    yield from ((name, theirs[name], mine[name]) for name in theirs if name in mine)
    yield "transforms", [one.name for one in there.transforms], [one.name for one in here.transforms]


def _same_units(model: CalmModel, theirs: object) -> bool:
    """Whether a unit's data are the same for both, so that one can encode what the other draws."""
    ours = model.autoencoder
    if not isinstance(ours, UnitwiseAutoencoder) or not isinstance(theirs, UnitwiseAutoencoder):
        return False
    return (ours.unit_shape, ours.discrete) == (theirs.unit_shape, theirs.discrete)


def objective_flops(objective: Objective, model: CalmModel, models: dict[str, CalmModel], units: int) -> int:
    """FLOPs of what an objective asks of other models in a training step on one row: a forward pass, draws of
    every unit, and what it takes to read them.

    Args:
        objective: Of stage 2.
        model: That is trained.
        models: Setting of `Objective.runs` -> model; with or without numbers.
        units: L.

    Raises:
        ValueError: No formula tells what a draw costs: an adaptive solver.
    """
    total = 0
    for other in models.values():
        counted = count_flops(other, units, objective.draws, objective.options)
        drawn = counted.inference["head"]
        if drawn is None:
            raise ValueError(
                "no formula tells what its draws cost with that solver; one of fixed steps would do"
            )
        forward = counted.training["autoencoder"]
        forward += (counted.training["embedder"] + counted.training["backbone"]) // PASSES
        total += forward + units * drawn
        encoded = type(other.autoencoder) is not type(model.autoencoder)
        if objective.decodes or encoded:
            total += units * (counted.inference["autoencoder"] or 0)
        if encoded:
            total += objective.draws * count_flops(model, units).training["autoencoder"]
    return total
