"""References: cells of a study that begin with the run of another of its cells, `cell:LABEL`.

A trial follows the trial of the same seed that it names; its key is made of that one's key, so a changed
teacher never meets an old pupil.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from calmkit.recipe.errors import refuse, suggest
from calmkit.recipe.runs_named import CELL, cells_named, with_cells
from calmkit.recipe.schema import Recipe
from calmkit.recipe.tree import Keys


def refuse_bad_references(cells: Mapping[str, Recipe], root: Keys) -> None:
    """Refuse a reference to a cell that there is not, and cells that wait for each other.

    Args:
        cells: Label -> its recipe, of any seed.
        root: The study.

    Raises:
        RecipeError: CK133.
    """
    mark = root.key_marks["grid"]
    named = {label: cells_named(recipe) for label, recipe in cells.items()}
    for label, found in named.items():
        for key, other in found.items():
            if other not in named:
                message = f"cell '{label}': {key} names the cell '{other}', which this study has not"
                raise refuse("CK133", message, mark, key, suggest(other, named, "cells"))
    for label in named:
        trail = [label]
        while True:
            before = [other for other in named[trail[-1]].values() if _leads_to(other, label, named)]
            if not before:
                break
            trail.append(before[0])
            if before[0] == label:
                message = f"cells that begin with each other's run: {' -> '.join(trail)}"
                raise refuse("CK133", message, mark, "grid", "one of them has to begin without the others")


def _leads_to(label: str, wanted: str, named: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a cell is another one, or begins with it, directly or through others."""
    seen, coming = set[str](), [label]
    while coming:
        now = coming.pop()
        if now == wanted:
            return True
        if now not in seen:
            seen.add(now)
            coming += named[now].values()
    return False


def knowing(recipes: Mapping[tuple[str, int], Recipe]) -> dict[tuple[str, int], Recipe]:
    """The same recipes, each of which knows those of the cells with its seed (`Source.cells`)."""
    by_seed: dict[int, dict[str, Recipe]] = {}
    for (label, seed), recipe in recipes.items():
        by_seed.setdefault(seed, {})[label] = recipe
    return {
        (label, seed): replace(recipe, source=replace(recipe.source, cells=by_seed[seed]))
        for (label, seed), recipe in recipes.items()
    }


def keys_of_trials(
    recipes: Mapping[tuple[str, int], Recipe], key_of: Callable[[str, Recipe], str]
) -> dict[tuple[str, int], str]:
    """The key of every trial, each made of the keys of those that it begins with.

    Args:
        recipes: (cell, seed) -> its recipe.
        key_of: Of a cell's label and a recipe that names no cell's label any more.
    """
    found: dict[tuple[str, int], str] = {}

    def key(label: str, seed: int) -> str:
        if (label, seed) not in found:
            recipe = recipes[label, seed]
            before = {other: f"{CELL}{key(other, seed)}" for other in cells_named(recipe).values()}
            found[label, seed] = key_of(label, with_cells(recipe, before))
        return found[label, seed]

    for label, seed in recipes:
        key(label, seed)
    return found


def in_turns(rests_on: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The keys of trials in turns: those of a turn begin with no other of the same or a later one.

    Args:
        rests_on: Key -> those that it begins with; who is no key here is done already.
    """
    left, turns = list(rests_on), list[list[str]]()
    while left:
        turns.append([key for key in left if not set(left) & set(rests_on[key])])
        left = [key for key in left if key not in turns[-1]]
    return turns
