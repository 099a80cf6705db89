"""match: what a study makes equal, as its file says it; `equal_cost` makes it so.

train_flops     steps that cost what the baseline's cost, autoencoders included
elements        steps that read as many elements, by the name that a kind of data gives them
steps           as many steps; without a value as each recipe says
wall_clock      steps that take as long on this machine: a few steps of each are timed
parameters      steps as the recipe says; one size is chosen so that parameters are equal
inference_flops the same, so that an element costs as much to write
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calmkit.recipe.errors import Mark, refuse, suggest
from calmkit.recipe.tree import Keys, Scalar

ELEMENTS = "elements"
UNITS: Mapping[str, str] = {
    "train_flops": "FLOPs",
    ELEMENTS: "{}s",
    "steps": "steps",
    "parameters": "parameters",
    "wall_clock": "seconds",
    "inference_flops": "FLOPs per {}",
}
"""What can be matched, and in what it is counted; `{}` stands for the element of a kind of data."""

SIZE_KEY = "backbone.hidden_dim"


@dataclass(frozen=True)
class Match:
    """What is made equal.

    Attributes:
        by: A name of `UNITS`.
        value: In its unit; None: the baseline's own.
        key: The size that `parameters` and `inference_flops` choose.
        mark: Where the study says so.
    """

    by: str = "train_flops"
    value: float | None = None
    key: str = SIZE_KEY
    mark: Mark | None = None

    @property
    def sets_steps(self) -> bool:
        """Whether the steps of a recipe are not its own."""
        return self.by in ("train_flops", ELEMENTS, "wall_clock") or (
            self.by == "steps" and self.value is not None
        )


def unit_of(by: str, element: str) -> str:
    """In what is counted what is matched."""
    return UNITS[by].format(element)


def name_of(by: str, element: str) -> str:
    """What a study calls it: elements by their own name, a plural."""
    return unit_of(by, element) if by == ELEMENTS else by


def told_match(match: Match, value: float | None, element: str) -> dict[str, Any]:
    """As `results.json` holds it."""
    return {"by": name_of(match.by, element), "value": value, "unit": unit_of(match.by, element)}


def match_by(name: str, element: str) -> str:
    """The name of `UNITS` that a name in a study stands for; itself where it is none."""
    return ELEMENTS if name == f"{element}s" else name


def read_match(root: Keys, element: str) -> Match:
    """The key `match` of a study.

    Args:
        root: The study.
        element: Of its kind of data, `KindWords.element`.

    Raises:
        RecipeError: CK130 to CK133.
    """
    if "match" not in root.nodes:
        return Match()
    node, mark = root.nodes["match"], root.key_marks["match"]
    if not isinstance(node, Keys):
        raise refuse("CK132", "match is a mapping, such as {by: train_flops}", mark, "match")
    for key in node.nodes:
        if key not in ("by", "value", "key"):
            help = suggest(key, ("by", "value", "key"), "keys")
            raise refuse("CK130", f"unknown key '{key}' of match", node.key_marks[key], f"match.{key}", help)
    texts = {key: child.text for key, child in node.nodes.items() if isinstance(child, Scalar)}
    by = match_by(texts.get("by", ""), element) if "by" in node.nodes else Match().by
    if by not in UNITS:
        named = [name_of(one, element) for one in UNITS]
        raise refuse("CK133", "match says by what", mark, "match.by", suggest(by, named, "by"))
    value = None
    if "value" in node.nodes:
        try:
            value = float(texts["value"])
        except (KeyError, ValueError):
            value = -1.0
        if not 0 < value < float("inf"):
            message = f"match.value must be a number of {unit_of(by, element)} above 0"
            raise refuse("CK133", message, node.key_marks["value"], "match.value")
    if "key" in node.nodes and by not in ("parameters", "inference_flops"):
        message = f"match.key is the size that is chosen; by {by} none is"
        raise refuse("CK133", message, node.key_marks["key"], "match.key")
    return Match(by, value, texts.get("key", SIZE_KEY), mark)
