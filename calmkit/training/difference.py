"""difference: two recipes or runs side by side: what they were asked for, made with, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from calmkit.recipe.difference import ASIDE, Difference, differences, leaves, recipe_differences
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.run import Run
from calmkit.training.run_folder import RESOLVED

NOT_MADE_WITH = ("seed", "command", "warnings", "went_on")
"""Keys of a lock that the recipe has already, or that tell nothing of what a run is."""


@final
@dataclass(frozen=True)
class Side:
    """A recipe, and the run that it is of, if it is of one."""

    name: str
    recipe: Recipe
    run: Run | None = None


@final
@dataclass(frozen=True)
class Comparison:
    """What two sides have otherwise.

    Attributes:
        recipe: Resolved settings.
        made_with: Versions, plugins, commits, data, machine; empty unless both are runs.
        results: Numbers of the evaluation and facts of the model; empty unless both are runs.
    """

    recipe: list[Difference]
    made_with: list[Difference]
    results: list[Difference]

    @property
    def same_recipe(self) -> bool:
        """Whether the recipes say the same, whatever they are called."""
        return all(one.key in ASIDE for one in self.recipe)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        parts = {"recipe": self.recipe, "made_with": self.made_with, "results": self.results}
        found = {name: {one.key: one.as_dict() for one in rows} for name, rows in parts.items()}
        return {"same_recipe": self.same_recipe, **found}


def read_side(target: str, manager: Manager) -> Side:
    """A recipe by name or file, or a run folder.

    Raises:
        RecipeError: There is no such recipe, or something is wrong with it.
    """
    if (Path(target) / RESOLVED).is_file():
        run = Run(Path(target))
        return Side(target, run.recipe(manager), run)
    return Side(target, load_recipe(target, (), manager))


def compare_sides(a: Side, b: Side) -> Comparison:
    """What differs between two recipes or runs."""
    recipe = recipe_differences(a.recipe, b.recipe)
    if a.run is None or b.run is None:
        return Comparison(recipe, [], [])
    made_with = differences(made_with_of(a.run.lock), made_with_of(b.run.lock))
    return Comparison(recipe, made_with, differences(results_of(a.run), results_of(b.run)))


def made_with_of(lock: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of a lock, as far as it tells what a run was made with."""
    return dict(leaves({key: value for key, value in lock.items() if key not in NOT_MADE_WITH}))


def results_of(run: Run) -> dict[str, Any]:
    """Dotted key -> value of `evaluation.json` and of `model/config.json`, as far as they are there.

    Raises:
        RunFailed: One is damaged.
    """
    found: dict[str, Any] = {}
    if (run.folder / "evaluation.json").is_file():
        found |= dict(leaves(run.evaluation))
    if (run.model_folder / "config.json").is_file():
        found |= dict(leaves(run.facts, "model."))
    return found
