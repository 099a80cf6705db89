"""The text of a recipe as a tree in which every scalar is still text and knows where it stands.

YAML would turn `off`, `010` and `1:30` into other things by guessing. A recipe is read by the type of its
fields instead, so nothing is converted here: `calmkit.recipe.convert` does it when the field is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

import yaml

from calmkit.printed import ACTS
from calmkit.recipe.errors import Mark, refuse

DEEPEST = 40
"""Mappings and lists inside each other; the deepest that a recipe has a use for is six."""
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
STANDARD_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
)


@final
@dataclass(frozen=True)
class Scalar:
    """A text as written; `quoted` where quotes (or a block) say that it is text and nothing else."""

    text: str
    mark: Mark
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        """True for a plain `null`, `~` or nothing at all."""
        return not self.quoted and self.text in NULLS


@final
@dataclass(frozen=True)
class Items:
    """A list."""

    nodes: tuple[Node, ...]
    mark: Mark


@final
@dataclass(frozen=True)
class Keys:
    """A mapping, in the order of the text; each key has its own mark."""

    nodes: dict[str, Node]
    mark: Mark
    key_marks: dict[str, Mark] = field(default_factory=dict)

    def with_key(self, key: str, node: Node, mark: Mark) -> Keys:
        """The same mapping with one key set."""
        return Keys({**self.nodes, key: node}, self.mark, {**self.key_marks, key: mark})

    def without(self, *keys: str) -> Keys:
        """The same mapping without these keys."""
        return Keys({k: n for k, n in self.nodes.items() if k not in keys}, self.mark, self.key_marks)


Node = Scalar | Items | Keys


def parse(text: str, place: str) -> Node:
    """YAML text to a tree; an empty text is a null.

    Args:
        text: YAML; only its plain subset: no tags, no anchors, no aliases.
        place: What marks call the text: a file's name, or `command line (key=value)`, which has no lines.

    Raises:
        RecipeError: CK101 no YAML, too deep, or control characters; CK102 tags or anchors, CK103 a key
            that stands twice.
    """
    by_line = not place.startswith("command line")
    try:
        root = _Plain(text, place, by_line).get_single_node()
    except yaml.MarkedYAMLError as error:
        reason = " ".join(filter(None, (error.context, error.problem)))
        mark = error.problem_mark or error.context_mark
        where = Mark(place, mark.line + 1, mark.column + 1) if mark and by_line else Mark(place)
        raise refuse("CK101", f"this is not YAML: {reason}", where, help=_yaml_help(text, mark)) from None
    except yaml.reader.ReaderError as error:
        reason = f"the character #x{error.character:04x} is not allowed"
        before = text[: error.position].splitlines(keepends=True) or [""]
        row = len(before) + before[-1].endswith("\n")
        column = 1 if before[-1].endswith("\n") else len(before[-1]) + 1
        where = Mark(place, row, column) if by_line else Mark(place)
        raise refuse("CK101", f"this is not YAML: {reason}", where) from None
    if root is None:
        return Scalar("", Mark(place, 1, 1) if by_line else Mark(place))
    return _convert(root, place, by_line, "")


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Mark]]:
    """Every dotted key of the tree with its mark; a key of an item of a list that has a name, such as a part,
    as `transforms[normalise].eps`.
    """
    if isinstance(node, Keys):
        for key, child in node.nodes.items():
            dotted = f"{path}.{key}" if path else key
            yield dotted, node.key_marks.get(key, child.mark)
            yield from leaves(child, dotted)
    elif isinstance(node, Items):
        for item in (item for item in node.nodes if isinstance(item, Keys)):
            name = item.nodes.get("name")
            if isinstance(name, Scalar):
                yield from leaves(item, f"{path}[{name.text}]")


@final
class _Plain(yaml.SafeLoader):
    """Composes nodes and builds no value; refuses, where it begins, what grows when it is read, and what is
    nested without end.
    """

    def __init__(self, text: str, place: str, by_line: bool) -> None:
        super().__init__(text)
        self.place, self.by_line, self.depth = place, by_line, 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """A node, and those in it."""
        event: Any = self.peek_event()
        start = event.start_mark
        mark = Mark(self.place, start.line + 1, start.column + 1) if self.by_line else Mark(self.place)
        if event.anchor is not None:
            help = f"for a text that begins with '*' or '&' write quotes: '*{event.anchor}'"
            raise refuse("CK102", "recipes have no anchors and aliases", mark, help=help)
        if self.depth > DEEPEST:
            raise refuse("CK101", f"lists and mappings are nested more than {DEEPEST} deep", mark)
        self.depth += 1
        node: yaml.Node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _convert(node: yaml.Node, place: str, by_line: bool, path: str) -> Node:
    def mark_of(node: yaml.Node) -> Mark:
        return Mark(place, node.start_mark.line + 1, node.start_mark.column + 1) if by_line else Mark(place)

    mark = mark_of(node)
    if node.tag not in STANDARD_TAGS:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise refuse("CK102", f"recipes have no YAML tags, here '{tag}'", mark, path, "write the plain value")
    if isinstance(node, yaml.ScalarNode):
        _refuse_control_characters(node.value, mark, path)
        return Scalar(node.value, mark, quoted=node.style is not None)
    if isinstance(node, yaml.SequenceNode):
        return Items(
            tuple(_convert(n, place, by_line, f"{path}[{i}]") for i, n in enumerate(node.value)), mark
        )
    nodes: dict[str, Node] = {}
    key_marks: dict[str, Mark] = {}
    for key_node, value in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise refuse("CK101", "a key must be a text", mark_of(key_node), path)
        key = key_node.value
        _refuse_control_characters(key, mark_of(key_node), path)
        dotted = f"{path}.{key}" if path else key
        if key in nodes:
            first = key_marks[key].at("")
            raise refuse(
                "CK103",
                f"the key '{key}' stands twice",
                mark_of(key_node),
                dotted,
                f"the first is at {first}",
            )
        nodes[key], key_marks[key] = _convert(value, place, by_line, dotted), mark_of(key_node)
    return Keys(nodes, mark, key_marks)


def _refuse_control_characters(text: str, mark: Mark, path: str) -> None:
    """Those that quotes can hold, such as "\\e[31m": terminals act upon them wherever names are shown."""
    found = ACTS.search(text)
    if found:
        message = f"the character #x{ord(found[0]):04x} has no place in a recipe"
        raise refuse("CK101", message, mark, path, "leave it out")


def _yaml_help(text: str, mark: yaml.Mark | None) -> str:
    lines = text.splitlines()
    return f"the line is: {lines[mark.line].strip()}" if mark and mark.line < len(lines) else ""
