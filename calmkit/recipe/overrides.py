"""What the command line says on top of a recipe: `head=flow`, `head.num_draws=4`, `stages.lm=null`."""

from __future__ import annotations

from collections.abc import Sequence

from calmkit.recipe.errors import Mark, refuse
from calmkit.recipe.schema import NAMED
from calmkit.recipe.tree import Keys, Node, Scalar, parse


def read_overrides(overrides: Sequence[str]) -> list[Keys]:
    """One small recipe per override, those that name a part first.

    Swaps come first whatever their order, so that `head.num_steps=8 head=flow` sets the flow's steps.

    Raises:
        RecipeError: CK110 where one is not key=value; CK101 to CK103 where a list or mapping is not YAML.
    """
    swaps = [o for o in overrides if _is_swap(o)]
    return [_read(o) for o in (*swaps, *(o for o in overrides if not _is_swap(o)))]


def _is_swap(override: str) -> bool:
    return override.partition("=")[0].strip().removesuffix(".name") in NAMED


def _read(override: str) -> Keys:
    key, equals, value = override.partition("=")
    mark = Mark(f"command line ({override})")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise refuse("CK110", f"'{override}' is not of the form key=value", mark, help=_EXAMPLES)
    node = _value(value.strip(), mark)
    for name in reversed(keys):
        node = Keys({name: node}, mark, {name: mark})
    assert isinstance(node, Keys)
    return node


_EXAMPLES = "such as head=flow, head.num_steps=8 or data.train=[a.txt,b.txt]"


def _value(text: str, mark: Mark) -> Node:
    """Brackets, braces and quotes are YAML; all else is the text itself: `*.txt` and `a: b` need no care."""
    if len(text) > 1 and (text[0], text[-1]) in (("[", "]"), ("{", "}"), ('"', '"'), ("'", "'")):
        return parse(text, mark.place)
    return Scalar(text, mark)
