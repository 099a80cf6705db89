"""Which finished runs a recipe begins with: paths of their folders, or, inside a study, other cells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from calmkit.recipe.schema import Recipe

CELL = "cell:"
"""In front of a cell's label, in the place of a run folder: the run of that cell with the same seed."""


def runs_named(recipe: Recipe) -> dict[str, str]:
    """Dotted key -> what it says of a run that the recipe begins with, as written."""
    first, second = recipe.stages.autoencoder, recipe.stages.lm
    found = {
        "stages.autoencoder.init_from": first and first.init_from,
        "stages.lm.init_from": second and second.init_from,
    }
    return {key: said for key, said in found.items() if said}


def cells_named(recipe: Recipe) -> dict[str, str]:
    """Dotted key -> label of the cell that it names."""
    said = runs_named(recipe).items()
    return {key: text.removeprefix(CELL) for key, text in said if text.startswith(CELL)}


def with_cells(recipe: Recipe, runs: Mapping[str, str]) -> Recipe:
    """The recipe with another text in the place of every cell that it names.

    Args:
        recipe: Of a cell.
        runs: Label -> what stands there instead, such as a run folder.
    """
    named = {key: runs[label] for key, label in cells_named(recipe).items()}
    first, second = recipe.stages.autoencoder, recipe.stages.lm
    if first is not None and (text := named.get("stages.autoencoder.init_from")):
        first = replace(first, init_from=text)
    if second is not None and (text := named.get("stages.lm.init_from")):
        second = replace(second, init_from=text)
    return replace(recipe, stages=replace(recipe.stages, autoencoder=first, lm=second))
