"""labels: what a model is called, by one rule for the cells of a study and for runs that are compared.

A label that a study gives is kept, and travels with its runs in their descriptions. Where nobody gave one, a
model is called by the settings that set it apart: a head by its name alone, `flow`, all else by the last word
of its key, `flow lr=0.001`, or by the whole key where another one ends like it.
"""

from __future__ import annotations

from collections.abc import Collection

from calmkit.recipe.errors import RecipeError
from calmkit.recipe.schema import SECTIONS
from calmkit.recipe.tree import Items, Keys, Scalar, parse

PARTS = tuple(SECTIONS)
HEAD = "head"


def setting_label(key: str, value: str, among: Collection[str]) -> str:
    """What a model with this setting is called.

    Args:
        key: Of the recipe, with or without the `.name` of a part.
        value: As text.
        among: All keys in which the models differ; another one that ends like this makes it stand in full.
    """
    key = plain_key(key)
    return value if key == HEAD else f"{_short(key, {plain_key(other) for other in among})}={value}"


def part_names(value: str) -> str:
    """`normalise,adaptor` for a list of parts as a resolved recipe says it, each with all its settings; empty
    for any other value.
    """
    try:
        node = parse(value, "")
    except RecipeError:  # a text that is no YAML
        return ""
    items = node.nodes if isinstance(node, Items) else ()
    names = [item.nodes.get("name") for item in items if isinstance(item, Keys)]
    texts = [name.text for name in names if isinstance(name, Scalar)]
    return ",".join(texts) if len(texts) == len(items) else ""


def plain_key(key: str) -> str:
    """`head` for `head.name`."""
    part = key.removesuffix(".name")
    return part if part in PARTS else key


def _short(key: str, among: Collection[str]) -> str:
    last = key.rsplit(".", 1)[-1]
    return key if any(other != key and other.rsplit(".", 1)[-1] == last for other in among) else last


def described(description: str, trial: str) -> str:
    """The description of a run of a study: that of its recipe, and which trial it is: `energy, seed 1`."""
    return f"{description} [{trial}]"


def label_in(description: str, seed: int) -> str:
    """The label that a study gave to a run with this description and seed; empty where none did."""
    end = f", seed {seed}]"
    if not description.endswith(end):
        return ""
    depth = 0
    for place in range(len(description) - 1, -1, -1):
        depth += {"]": 1, "[": -1}.get(description[place], 0)
        if depth == 0:
            return description[place + 1 : -len(end)]
    return ""
