"""The keys of a study file, one reader each; what can't be is refused at its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from calmkit.recipe.errors import refuse, suggest
from calmkit.recipe.limits import NAME
from calmkit.recipe.schema import Recipe
from calmkit.recipe.tree import Items, Keys, Node, Scalar
from calmkit.studies.axes import picks, read_axes, read_pick
from calmkit.studies.cells import Cell
from calmkit.studies.match import Match, name_of
from calmkit.studies.rankable import Rankable

VERSION = "1"
KEYS = (
    "calmkit_study",
    "name",
    "description",
    "base",
    "share",
    "match",
    "grid",
    "exclude",
    "when",
    "set",
    "seeds",
    "primary",
    "baseline",
    "relate",
    "fit",
    "samplers",
    "sampling_units",
    "blocks",
    "launcher",
)
SHARED = ("autoencoder",)


def checked_keys(root: Node) -> Keys:
    """The study as a mapping whose keys are known, with those it can't do without, of this version."""
    if not isinstance(root, Keys):
        raise refuse("CK101", "a study is a mapping of keys", root.mark)
    for key in root.nodes:
        if key not in KEYS:
            raise refuse(
                "CK130",
                f"unknown key '{key}' of a study",
                root.key_marks[key],
                key,
                suggest(key, KEYS, "keys"),
            )
    for key in ("calmkit_study", "name", "base", "grid"):
        if key not in root.nodes:
            raise refuse("CK131", f"a study needs the key '{key}'", root.mark, key)
    if read_text(root, "calmkit_study") != VERSION:
        raise refuse(
            "CK105", f"this calmkit reads studies of version {VERSION}", root.key_marks["calmkit_study"]
        )
    return root


def read_baseline(root: Keys, cells: Sequence[Cell]) -> str:
    """The label of the cell that the others are compared with: named by label, or picked by a mapping."""
    labels = [cell.label for cell in cells]
    node = root.nodes.get("baseline")
    if node is None:
        return labels[0]
    if isinstance(node, Scalar):
        if node.text not in labels:
            message = f"no cell is called '{node.text}'"
            help = suggest(node.text, labels, "cells")
            raise refuse("CK133", message, root.key_marks["baseline"], "baseline", help)
        return node.text
    pick = read_pick(node, read_axes(root), "baseline")
    found = [cell.label for cell in cells if picks(pick, cell.settings)]
    if len(found) != 1:
        told = ", ".join(f"'{label}'" for label in found) or "none"
        message = f"the baseline is one cell, and this picks {len(found)}: {told}"
        raise refuse("CK133", message, root.key_marks["baseline"], "baseline", suggest("", labels, "cells"))
    return found[0]


def refuse_without_effect(root: Keys, match: Match, element: str) -> None:
    """An axis over steps says nothing where the budget sets the steps."""
    if not match.sets_steps:
        return
    for axis in read_axes(root):
        for value in axis:
            for setting in value.settings:
                if setting.key == "stages.lm.max_steps":
                    by = name_of(match.by, element)
                    message = f"match by {by} sets the steps, so this axis would change nothing"
                    help = "match: {by: steps} takes each cell's own steps"
                    raise refuse("CK133", message, setting.mark, "grid.stages.lm.max_steps", help)


def read_seeds(root: Keys) -> list[str | None]:
    """As the study says them; None: each recipe's own."""
    if "seeds" not in root.nodes:
        return [None]
    mark = root.key_marks["seeds"]
    seeds = _texts(root.nodes["seeds"])
    if not seeds:
        raise refuse("CK133", "seeds is an empty list", mark, "seeds", "leave it out, or name some")
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise refuse("CK133", f"the seed {seed} stands {seeds.count(seed)} times", mark, "seeds")
    return [*seeds]


def read_primary(root: Keys, known: Mapping[str, Rankable], recipes: Sequence[Recipe], usual: str) -> str:
    """The measure that cells are ranked by; default the usual one of their kind of data.

    Args:
        root: The study.
        known: What runs can be ranked by.
        recipes: Of all cells; one that is ranked by a metric must ask for it.
        usual: The primary number of their kind of data.
    """
    if "primary" not in root.nodes:
        return usual
    name, mark = read_text(root, "primary"), root.key_marks["primary"]
    if name not in known:
        message = f"no study can be ranked by '{name}'"
        raise refuse("CK133", message, mark, "primary", suggest(name, known, "measures"))
    refuse_unmeasured(root, "primary", f"the study is ranked by '{name}'", known[name], recipes)
    return name


def refuse_unmeasured(root: Keys, key: str, asks: str, one: Rankable, recipes: Sequence[Recipe]) -> None:
    """A number that recipes must ask for, and that a key of the study asks of runs, is asked for by all."""
    for recipe in recipes if one.asked else ():
        if one.measure not in [spec.name for spec in recipe.evaluation.metrics]:
            message = f"{asks}, and '{recipe.name}' is not measured by it"
            help = f"write set: {{evaluation.metrics: [{one.measure}]}}"
            raise refuse("CK133", message, root.key_marks[key], key, help)


def read_name(root: Keys) -> str:
    """The study's name, which is also a folder of `runs/studies`."""
    name = read_text(root, "name")
    if not re.fullmatch(NAME.pattern, name):
        raise refuse("CK133", f"name must be like {NAME}, got '{name}'", root.key_marks["name"], "name")
    return name


def read_text(root: Keys, key: str) -> str:
    """A key that must hold one text."""
    node = root.nodes[key]
    if not isinstance(node, Scalar):
        raise refuse("CK132", f"'{key}' is a text", root.key_marks[key], key)
    return node.text


def _texts(node: Node) -> list[str]:
    if not isinstance(node, Items) or not all(isinstance(item, Scalar) for item in node.nodes):
        raise refuse("CK132", "expected a list of texts", node.mark)
    return [item.text for item in node.nodes if isinstance(item, Scalar)]


def read_shared(root: Keys) -> tuple[str, ...]:
    """What is trained once for all cells that agree on it."""
    if "share" not in root.nodes:
        return ()
    values = tuple(_texts(root.nodes["share"]))
    for value in values:
        if value not in SHARED:
            help = suggest(value, SHARED, "shareable")
            raise refuse("CK133", f"'{value}' can't be shared", root.key_marks["share"], "share", help)
    return values
