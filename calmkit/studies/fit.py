"""fit: the key of a study that asks for a power law in the sizes of its models and the lengths of training.

    fit: {y: NUMBER, series: [head, KEY], exponents: [head]}

`calmkit.results.scaling` says what is fitted; here it is read, and refused before anything runs where the
grid could not tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calmkit.recipe.errors import refuse, suggest
from calmkit.recipe.plan import Plan
from calmkit.recipe.tree import Items, Keys, Node, Scalar, parse
from calmkit.results.power_law import Runs, unidentified
from calmkit.results.scaling import Fit
from calmkit.studies.cells import Cell
from calmkit.studies.rankable import Rankable

KEYS = ("y", "series", "exponents")
FORM = "fit is a mapping, such as {y: NUMBER, series: [head], exponents: [head]}"


def read_fit(root: Keys, cells: Sequence[Cell], known: Mapping[str, Rankable]) -> Fit | None:
    """The key `fit` of a study; None where it is left out.

    Args:
        root: The study.
        cells: Of its grid.
        known: Numbers that runs on its kind of data have.

    Raises:
        RecipeError: CK132 for another form, CK130 for another key or for what the grid does not vary, CK131
            without `y`, CK133 for a number that can't be fitted.
    """
    if "fit" not in root.nodes:
        return None
    node, mark = root.nodes["fit"], root.key_marks["fit"]
    if not isinstance(node, Keys):
        raise refuse("CK132", FORM, mark, "fit")
    for key in node.nodes:
        if key not in KEYS:
            help = suggest(key, KEYS, "keys")
            raise refuse("CK130", f"unknown key '{key}' of fit", node.key_marks[key], f"fit.{key}", help)
    if "y" not in node.nodes:
        raise refuse("CK131", "fit needs the key 'y'", mark, "fit.y", suggest("", known, "numbers"))
    names = _names(node, "y")
    for name in names:
        _refuse_number(name, known, node)
    series = _varied(node, "series", cells)
    exponents = _varied(node, "exponents", cells) if "exponents" in node.nodes else series
    for name in exponents:
        if name not in series:
            message = f"fit.exponents names '{name}', by which its series are not told apart"
            help = suggest(name, series, "series")
            raise refuse("CK133", message, node.key_marks["exponents"], "fit.exponents", help)
    return Fit(names, series, exponents)


def _refuse_number(name: str, known: Mapping[str, Rankable], node: Keys) -> None:
    mark = node.key_marks["y"]
    if name not in known:
        message = f"fit.y is no number that a run is measured by: '{name}'"
        raise refuse("CK133", message, mark, "fit.y", suggest(name, known, "numbers"))
    number = known[name].number
    if number.better == "higher" and number.best is None:
        message = f"fit.y: more of '{name}' is better, and how far it can go is not said, so it is no loss"
        fitting = [one for one, it in known.items() if it.number.better == "lower" or it.number.best]
        raise refuse("CK133", message, mark, "fit.y", suggest("", fitting, "numbers"))


def _names(node: Keys, key: str) -> tuple[str, ...]:
    """One name or several, each once."""
    value: Node = node.nodes[key]
    items: Sequence[Node] = value.nodes if isinstance(value, Items) else [value]
    found = [item.text for item in items if isinstance(item, Scalar) and not item.is_null]
    if len(found) != len(items) or not found or len(set(found)) != len(found):
        raise refuse(
            "CK132", f"fit.{key} is a name, or a list of names, each once", node.key_marks[key], f"fit.{key}"
        )
    return tuple(found)


def _varied(node: Keys, key: str, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Names of axes, or of keys that the grid varies."""
    if key not in node.nodes:
        return ()
    names = _names(node, key)
    known = {name for cell in cells for name in cell.settings}
    for name in names:
        if name not in known:
            message = f"fit.{key} names '{name}', which the grid does not vary"
            raise refuse(
                "CK130", message, node.key_marks[key], f"fit.{key}", suggest(name, known, "axes and keys")
            )
    return names


def refuse_unidentified(
    fit: Fit, text: str, path: str, settings: Mapping[str, Mapping[str, str]], costs: Mapping[str, Plan]
) -> None:
    """Refuse a grid whose runs could not tell the law, whatever their scores.

    Args:
        fit: What the study fits.
        text: The study's file, for the place of its key.
        path: Of that file.
        settings: Label of a cell -> what picks it.
        costs: Label of a cell -> what its runs take.

    Raises:
        RecipeError: CK133, with the runs and what is too few.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for label in costs:
        groups.setdefault(fit.group_of(settings[label]), []).append(label)
    for key, members in groups.items():
        series = [fit.series_of(settings[label]) for label in members]
        order = list(dict.fromkeys(series))
        runs = Runs(
            np.array([order.index(one) for one in series]),
            np.array([costs[label].parameters for label in members], dtype=float),
            np.array([costs[label].stages["lm"].elements for label in members], dtype=float),
            np.ones(len(members)),
        )
        if why := unidentified(runs):
            root = parse(text, path)
            assert isinstance(root, Keys)
            who = f" of '{', '.join(filter(None, key))}'" if any(key) else ""
            message = f"fit: the runs{who} could not tell a law: {why}"
            help = (
                "at least 3 sizes and 3 lengths in each series, crossed, and more cells than numbers to fit"
            )
            raise refuse("CK133", message, root.key_marks["fit"], "fit", help)
