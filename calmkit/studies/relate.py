"""relate: the key of a study that asks how two measures go together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import cast

from calmkit.interfaces import KindWords, Measure, RelateWords
from calmkit.recipe.convert import Misfit
from calmkit.recipe.errors import refuse, suggest
from calmkit.recipe.schema import Recipe
from calmkit.recipe.tree import Keys, Scalar
from calmkit.registry import Manager
from calmkit.results.relation import Relate, names_of
from calmkit.studies.rankable import Rankable, rankable


def on_the_way(recipes: Iterable[Recipe], manager: Manager) -> dict[str, Rankable]:
    """Numbers that some of the recipes ask for and that are taken at every validation."""
    asked = {spec.name for recipe in recipes for spec in recipe.evaluation.metrics}
    known = rankable(manager)
    infos = {name: cast(type[Measure], manager.find("metrics", name).cls).info for name in asked}
    return {
        name: one for name, one in known.items() if one.measure in asked and infos[one.measure].on_the_way
    }


def relate_words(words: KindWords, known: Mapping[str, Rankable]) -> RelateWords:
    """What can be related in a study: what the kind of data says, and numbers that recipes ask for."""
    own = words.relate or RelateWords({})
    asked = {name: one.number.name for name, one in known.items() if one.asked}
    return replace(own, names={**own.names, **asked})


KEYS = ("x", "y", "of", "by")
WAY, ENDS = "way", "ends"


def read_relate(
    root: Keys,
    words: RelateWords | None,
    rankable: Mapping[str, str] = MappingProxyType({}),
    varied: Collection[str] = (),
) -> Relate | None:
    """The key `relate` of a study, `{x: NAME, y: NAME}`; None where it is left out.

    `of: ends` takes the finished runs for points, and any number that runs can be ranked by; `by` names what
    tells pairs of them apart.

    Args:
        root: The study.
        words: What points on the way hold of the kind of data.
        rankable: Numbers of finished runs -> what a figure calls them.
        varied: Axes and keys of the grid.

    Raises:
        RecipeError: CK132 for another form, CK130 for another key or axis, CK131 for a missing one, CK133
        for a name that no point holds, or one measure against itself.
    """
    if "relate" not in root.nodes:
        return None
    node, mark = root.nodes["relate"], root.key_marks["relate"]
    known = names_of(words)
    if not isinstance(node, Keys):
        message = f"relate is a mapping, such as {{x: step, y: {next(iter(known))}}}"
        raise refuse("CK132", message, mark, "relate")
    for key in node.nodes:
        if key not in KEYS:
            message = f"unknown key '{key}' of relate"
            raise refuse("CK130", message, node.key_marks[key], f"relate.{key}", suggest(key, KEYS, "keys"))
    ends, by = _of_ends(node, varied)
    if ends:
        known = dict(rankable)
    found = []
    for axis in ("x", "y"):
        value, where = node.nodes.get(axis), node.key_marks.get(axis, mark)
        if value is None or (isinstance(value, Scalar) and value.is_null):
            message, help = f"relate needs the key '{axis}'", suggest("", known, "measures")
            raise refuse("CK131", message, where, f"relate.{axis}", help)
        if not isinstance(value, Scalar):
            message = f"relate.{axis} {Misfit('the name of a measure', value)}"
            raise refuse("CK132", message, where, f"relate.{axis}")
        if value.text not in known:
            told = "number that a run is measured by" if ends else "measure of the points on the way"
            message = f"relate.{axis} is no {told}: '{value.text}'"
            raise refuse("CK133", message, where, f"relate.{axis}", suggest(value.text, known, "measures"))
        found.append(value.text)
    if found[0] == found[1]:
        message, help = f"relate sets '{found[0]}' against itself", suggest("", known, "measures")
        raise refuse("CK133", message, node.key_marks["y"], "relate.y", help)
    return Relate(found[0], found[1], ends, by)


def _of_ends(node: Keys, varied: Collection[str]) -> tuple[bool, str]:
    """Whether finished runs are related, and by what pairs of them are told apart."""
    of, by = node.nodes.get("of"), node.nodes.get("by")
    if of is not None and (not isinstance(of, Scalar) or of.text not in (WAY, ENDS)):
        message = f"relate.of says which points: '{WAY}', or '{ENDS}': finished runs"
        raise refuse("CK133", message, node.key_marks["of"], "relate.of", suggest("", (WAY, ENDS), "points"))
    ends = isinstance(of, Scalar) and of.text == ENDS
    if by is None:
        return ends, ""
    mark = node.key_marks["by"]
    if not ends:
        message = f"relate.by tells pairs of finished runs apart; write of: {ENDS}"
        raise refuse("CK133", message, mark, "relate.by")
    if not isinstance(by, Scalar) or by.text not in varied:
        help = suggest(by.text if isinstance(by, Scalar) else "", varied, "axes and keys")
        raise refuse("CK130", "relate.by is an axis or a key that the grid varies", mark, "relate.by", help)
    return ends, by.text
