"""Cells: the points of a study's grid, less what is excluded, each a recipe for every seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from calmkit.recipe.errors import Mark, Problem, RecipeError, refuse
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe
from calmkit.recipe.tree import Items, Keys
from calmkit.registry import Manager
from calmkit.studies.axes import Setting, Value, picks, read_axes, read_pick, settings_of
from calmkit.studies.references import knowing, refuse_bad_references


@dataclass(frozen=True)
class Cell:
    """A point of the grid.

    Attributes:
        label: What people call it.
        settings: What picks it: axis -> value or label, and recipe key -> value.
        overrides: Of the base recipe, in their order, without the seed.
        recipes: One per seed of the study, before its budget is known.
    """

    label: str
    settings: Mapping[str, str]
    overrides: tuple[str, ...]
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True)
class Condition:
    """`if`: which cells; `set`: what they get on top."""

    pick: Mapping[str, str]
    settings: tuple[Setting, ...]


def read_cells(
    root: Keys, base: str, manager: Manager, given: Sequence[str], seeds: Sequence[str | None]
) -> tuple[Cell, ...]:
    """All cells of a study, their recipes read and checked.

    Args:
        root: The study.
        base: Its base recipe.
        manager: Parts.
        given: Overrides from the command line: after the study's `set`, before its grid.
        seeds: None: the one of the base recipe.

    Raises:
        RecipeError: For the grid, exclusions and conditions, and for any cell's recipe, with the place in the
            study of what is wrong.
    """
    axes = read_axes(root)
    fixed = settings_of(root.nodes["set"]) if "set" in root.nodes else ()
    conditions = _conditions(root, axes)
    varied = {s.key for axis in axes for value in axis for s in value.settings}
    varied |= {s.key for condition in conditions for s in condition.settings}
    _refuse_varied(given, varied | ({"seed"} if seeds != [None] else set()))
    points = _without_excluded(root, axes, [*product(*axes)])
    used: set[int] = set()
    cells = []
    for point in points:
        picked_by = _picked_by(point)
        chosen = [n for n, one in enumerate(conditions) if picks(one.pick, picked_by)]
        used.update(chosen)
        own = [s for value in point for s in value.settings] + [
            s for n in chosen for s in conditions[n].settings
        ]
        overrides = (*(s.override for s in fixed), *given, *(s.override for s in own))
        label = " ".join(value.label for value in point)
        marks = {s.key: s.mark for s in [*fixed, *own]}
        marks |= {"seed": root.key_marks["seeds"]} if "seeds" in root.nodes else {}
        recipes = tuple(_recipe(base, overrides, seed, label, marks, root, manager) for seed in seeds)
        cells.append(Cell(label, picked_by, overrides, recipes))
    for number, condition in enumerate(conditions):
        if number not in used:
            _refuse_idle(root, "when", number, condition.pick)
    found = tuple(_with_own_labels(cells, root))
    refuse_bad_references({cell.label: cell.recipes[0] for cell in found}, root)
    known = knowing({(cell.label, recipe.seed): recipe for cell in found for recipe in cell.recipes})
    return tuple(replace(c, recipes=tuple(known[c.label, r.seed] for r in c.recipes)) for c in found)


def _conditions(root: Keys, axes: list[list[Value]]) -> list[Condition]:
    if "when" not in root.nodes:
        return []
    node, mark = root.nodes["when"], root.key_marks["when"]
    example = "such as [{if: {head: flow}, set: {head.num_steps: 8}}]"
    if not isinstance(node, Items):
        raise refuse("CK132", "when is a list of conditions", mark, "when", example)
    found = []
    for number, item in enumerate(node.nodes):
        if not isinstance(item, Keys) or set(item.nodes) != {"if", "set"}:
            message = f"when[{number}] has the keys 'if' and 'set', and no others"
            raise refuse("CK132", message, item.mark, f"when[{number}]", example)
        pick = read_pick(item.nodes["if"], axes, f"when[{number}].if")
        found.append(Condition(pick, settings_of(item.nodes["set"])))
    return found


def _without_excluded(
    root: Keys, axes: list[list[Value]], points: list[tuple[Value, ...]]
) -> list[tuple[Value, ...]]:
    if "exclude" not in root.nodes:
        return points
    node, mark = root.nodes["exclude"], root.key_marks["exclude"]
    if not isinstance(node, Items):
        message = "exclude is a list of mappings, such as [{head: diffusion, autoencoder.latent_dim: 8}]"
        raise refuse("CK132", message, mark, "exclude")
    for number, item in enumerate(node.nodes):
        pick = read_pick(item, axes, f"exclude[{number}]")
        if not any(picks(pick, _picked_by(point)) for point in points):
            _refuse_idle(root, "exclude", number, pick)
        points = [point for point in points if not picks(pick, _picked_by(point))]
    if not points:
        raise refuse("CK133", "the grid is empty: every cell is excluded", mark, "exclude")
    return points


def _picked_by(point: Sequence[Value]) -> dict[str, str]:
    return {name: text for value in point for name, text in value.picked_by.items()}


def _refuse_idle(root: Keys, key: str, number: int, pick: Mapping[str, str]) -> None:
    wanted = ", ".join(f"{name}: {value}" for name, value in pick.items())
    message = f"{key}[{number}] meets no cell: no cell has {{{wanted}}}"
    raise refuse("CK133", message, root.key_marks[key], key, "leave it out, or mend it")


def _recipe(
    base: str,
    overrides: Sequence[str],
    seed: str | None,
    label: str,
    marks: Mapping[str, Mark],
    root: Keys,
    manager: Manager,
) -> Recipe:
    """A cell's recipe; what is wrong with it is told with its place in the study."""
    seeded = [*overrides, *([] if seed is None else [f"seed={seed}"])]
    try:
        recipe = load_recipe(base, overrides=seeded, manager=manager)
    except RecipeError as error:
        raise RecipeError([_placed(problem, label, marks) for problem in error.problems]) from error
    if recipe.stages.lm is None:
        message = f"the cell '{label}' trains no language model: its stages.lm is null"
        raise refuse("CK144", message, root.key_marks["grid"], "grid", "a study compares language models")
    if recipe.trainer.devices == "auto":  # one device each: the budget does not depend on the machine
        recipe = replace(recipe, trainer=replace(recipe.trainer, devices="1"))
    return recipe


def _placed(problem: Problem, label: str, marks: Mapping[str, Mark]) -> Problem:
    """A problem of an override that the study makes, at the line that makes it."""
    place = problem.mark.place if problem.mark else ""
    for key, mark in marks.items():
        if place.startswith(f"command line ({key}=") or place.startswith(f"command line ({key}.name="):
            return replace(problem, mark=mark, message=f"cell '{label}': {problem.message}")
    return problem


def _refuse_varied(given: Sequence[str], varied: set[str]) -> None:
    """An override of a key that the cells set themselves would be lost in silence."""
    for override in given:
        key = override.partition("=")[0].strip().removesuffix(".name")
        if key in varied:
            raise refuse(
                "CK133",
                f"'{key}' is what the cells of this study vary",
                Mark(f"command line ({override})"),
                help="copy the study's file and change its grid",
            )


def _with_own_labels(cells: list[Cell], root: Keys) -> Iterator[Cell]:
    """The cells, refused where two share a label: nobody could tell them apart."""
    labels = [cell.label for cell in cells]
    for cell in cells:
        if labels.count(cell.label) > 1:
            message = f"{labels.count(cell.label)} cells are called '{cell.label}'; give them labels"
            raise refuse("CK133", message, root.key_marks["grid"], "grid")
        yield cell
