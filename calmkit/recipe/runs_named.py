"""Which finished runs a recipe begins with: paths of their folders, or, inside a study, other cells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calmkit.recipe.schema import OBJECTIVE, Recipe
from calmkit.registry import Manager

CELL = "cell:"
"""In front of a cell's label, in the place of a run folder: the run of that cell with the same seed."""


def runs_named(recipe: Recipe, manager: Manager) -> dict[str, str]:
    """Dotted key -> what it says of a run that the recipe begins with, as written; an objective's run that
    is the one of `stages.lm.init_from` by default is not said twice.
    """
    second = recipe.stages.lm
    found = _taken_over(recipe)
    if second is not None:
        named = manager.find("objectives", second.objective.name).cls.runs
        found |= {f"{OBJECTIVE}.{key}": second.objective.options.get(key) for key in named}
    return {key: said for key, said in found.items() if said}


def cells_named(recipe: Recipe) -> dict[str, str]:
    """Dotted key -> label of the cell that it names."""
    second, found = recipe.stages.lm, _taken_over(recipe)
    if second is not None:
        found |= {f"{OBJECTIVE}.{key}": value for key, value in second.objective.options.items()}
    said = {key: text for key, text in found.items() if isinstance(text, str) and text.startswith(CELL)}
    return {key: text.removeprefix(CELL) for key, text in said.items()}


def with_cells(recipe: Recipe, runs: Mapping[str, str]) -> Recipe:
    """The recipe with another text in the place of every cell that it names.

    Args:
        recipe: Of a cell.
        runs: Label -> what stands there instead, such as a run folder.
    """
    named = {key: runs[label] for key, label in cells_named(recipe).items()}
    first, second = recipe.stages.autoencoder, recipe.stages.lm
    if first is not None and (text := named.pop("stages.autoencoder.init_from", None)):
        first = replace(first, init_from=text)
    if second is not None and (text := named.pop("stages.lm.init_from", None)):
        second = replace(second, init_from=text)
    if second is not None and named:
        own = {key.rpartition(".")[2]: text for key, text in named.items()}
        spec = replace(second.objective, options={**second.objective.options, **own})
        second = replace(second, objective=spec)
    return replace(recipe, stages=replace(recipe.stages, autoencoder=first, lm=second))


def _taken_over(recipe: Recipe) -> dict[str, Any]:
    first, second = recipe.stages.autoencoder, recipe.stages.lm
    return {
        "stages.autoencoder.init_from": first and first.init_from,
        "stages.lm.init_from": second and second.init_from,
    }
