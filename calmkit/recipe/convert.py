"""From text to values, by the type of the field that takes them.

Scalars go through OmegaConf's typed nodes; containers and unions are walked here: each item keeps its mark.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from omegaconf import FloatNode, IntegerNode
from omegaconf.errors import ValidationError

from calmkit.recipe.errors import Mark
from calmkit.recipe.tree import Items, Keys, Node, Scalar


class Misfit(Exception):
    """A value that its field does not take: what was wanted, what came, and where."""

    def __init__(self, wanted: str, node: Node) -> None:
        self.wanted, self.mark = wanted, node.mark
        super().__init__(f"must be {wanted}, got {_shown(node)}")


class NotFinite(Misfit):
    """Infinity or no number at all, in plain letters where a number may stand; no other type may take it."""


def convert(annotation: Any, node: Node, default: Any = None) -> Any:
    """The value of a node for a field of that type.

    Args:
        annotation: int, float, bool, str, Path, Literal, tuple, list, dict, unions of them; Any takes the
            type of the default.
        node: Text as read.
        default: The field's default, used for `Any` alone.

    Raises:
        Misfit: The value is of another type, or a number that is not finite.
    """
    if annotation is Any:
        annotation = type(default) if type(default) in SCALARS else str
    if annotation in SCALARS:
        return _scalar(annotation, node)
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union(annotation, arguments, node)
    if origin is Literal:
        found = [a for a in arguments if isinstance(node, Scalar) and str(a) == node.text]
        if not found:
            raise Misfit(describe(annotation), node)
        return found[0]
    if origin in (list, Sequence):
        return [convert(arguments[0] if arguments else str, item) for item in _items(annotation, node)]
    if origin is tuple:
        return _tuple(annotation, arguments, node)
    if origin in (dict, Mapping):
        if not isinstance(node, Keys):
            raise Misfit(describe(annotation), node)
        value_type = arguments[1] if arguments else str
        return {key: convert(value_type, child) for key, child in node.nodes.items()}
    raise Misfit(f"of type {annotation}, which no recipe can hold", node)


def describe(annotation: Any) -> str:
    """A type in the words of an error message."""
    if annotation in SCALARS:
        return SCALARS[annotation][0]
    if annotation is type(None):
        return "null"
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments)) if len(arguments) > 1 else f"'{arguments[0]}'"
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} values"
    return {list: "a list", Sequence: "a list", tuple: "a list", dict: "a mapping", Mapping: "a mapping"}.get(
        origin, str(annotation)
    )


def to_node(value: Any, mark: Mark) -> Node:
    """The tree of a value: what `convert` turns back into it, for one of its field's type."""
    if isinstance(value, Mapping):
        return Keys({str(k): to_node(v, mark) for k, v in value.items()}, mark)
    if isinstance(value, list | tuple):
        return Items(tuple(to_node(v, mark) for v in value), mark)
    if value is None:
        return Scalar("null", mark)
    if isinstance(value, bool):
        return Scalar(str(value).lower(), mark)
    return Scalar(str(value), mark, quoted=isinstance(value, str))


def _union(annotation: Any, arguments: Sequence[Any], node: Node) -> Any:
    if type(None) in arguments and isinstance(node, Scalar) and node.is_null:
        return None
    # Text takes every scalar, so it comes last; what is in quotes is text before it is anything else.
    text_last = sorted(
        (a for a in arguments if a is not type(None)),
        key=lambda a: (a is str) != (isinstance(node, Scalar) and node.quoted),
    )
    for argument in text_last:
        try:
            return convert(argument, node)
        except NotFinite:
            raise
        except Misfit:
            continue
    raise Misfit(describe(annotation), node)


def _tuple(annotation: Any, arguments: Sequence[Any], node: Node) -> tuple[Any, ...]:
    items = _items(annotation, node)
    if not arguments or Ellipsis in arguments:
        return tuple(convert(arguments[0] if arguments else str, item) for item in items)
    if len(items) != len(arguments):
        raise Misfit(describe(annotation), node)
    return tuple(convert(a, item) for a, item in zip(arguments, items, strict=True))


def _items(annotation: Any, node: Node) -> tuple[Node, ...]:
    if not isinstance(node, Items):
        raise Misfit(describe(annotation), node)
    return node.nodes


def _scalar(annotation: Any, node: Node) -> Any:
    wanted, read = SCALARS[annotation]
    if not isinstance(node, Scalar) or node.is_null:
        raise Misfit(wanted, node)
    try:
        value = read(node.text)
    except (ValidationError, ValueError):
        raise Misfit(wanted, node) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise NotFinite("a finite number", node)
    return value


def _float(text: str) -> float:
    plain = re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower())  # YAML writes both with a dot
    value: Any = FloatNode().validate_and_convert(plain)
    return value


def _bool(text: str) -> bool:
    if text not in ("true", "false"):  # OmegaConf's own node also takes yes, on, 1 and y
        raise ValueError(text)
    return text == "true"


def _integer(text: str) -> int:
    value: Any = IntegerNode().validate_and_convert(text)
    return value


SCALARS: Mapping[Any, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", _bool),
    int: ("a whole number", _integer),
    float: ("a number", _float),
    str: ("a text", str),
    Path: ("a path", Path),
}


def _shown(node: Node) -> str:
    if isinstance(node, Keys):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    return "null" if node.is_null else f"'{node.text}'"
