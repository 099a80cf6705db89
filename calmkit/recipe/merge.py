"""One recipe over another: what the child says wins, and a part with a new name is swapped.

A swap keeps the options that the new part also takes (chunk size, width), drops the others, and says both.
"""

from __future__ import annotations

from calmkit.recipe.convert import Misfit, convert
from calmkit.recipe.schema import NAMED, SECTIONS
from calmkit.recipe.tree import Items, Keys, Node, Scalar
from calmkit.registry import Manager, Part, UnknownPart

GENERIC = frozenset({"name", "sequence_length"})
"""Keys of a section that belong to the section and not to its part."""


def merge(parent: Node, child: Node, manager: Manager, notes: list[str], path: str = "") -> Node:
    """The child over the parent.

    Args:
        parent: What is there.
        child: What is said on top of it; `head: flow` means `head: {name: flow}`.
        manager: Where settings of parts are looked up.
        notes: Gains a line for every swap.
        path: Dotted key of both.
    """
    if path in NAMED:
        parent, child = _as_part(parent), _as_part(child)
    if not (isinstance(parent, Keys) and isinstance(child, Keys)):
        return child
    if path in NAMED and _name(child) not in (None, _name(parent)):
        parent = _swap(parent, child, path, manager, notes)
    for key, node in child.nodes.items():
        mark = child.key_marks.get(key, node.mark)
        if key in parent.nodes:
            if isinstance(parent.nodes[key], Keys) and isinstance(node, Keys):
                mark = parent.key_marks.get(key, mark)  # a section stands where it was begun
            node = merge(parent.nodes[key], node, manager, notes, f"{path}.{key}" if path else key)
        parent = parent.with_key(key, node, mark)
    return parent


def short_parts(recipe: Keys) -> Keys:
    """The recipe with every `head: flow` written out as `head: {name: flow}`."""
    for section in SECTIONS.keys() & recipe.nodes.keys():
        node = recipe.nodes[section]
        recipe = recipe.with_key(section, _as_part(node), recipe.key_marks.get(section, node.mark))
    return recipe


def _as_part(node: Node) -> Node:
    if isinstance(node, Scalar) and not node.is_null:
        return Keys({"name": node}, node.mark, {"name": node.mark})
    return node


def _name(section: Keys) -> str | None:
    name = section.nodes.get("name")
    return name.text if isinstance(name, Scalar) else None


def _swap(parent: Keys, child: Keys, section: str, manager: Manager, notes: list[str]) -> Keys:
    old, new = _name(parent), _name(child)
    try:
        part = manager.find(NAMED[section], str(new))
    except UnknownPart:
        return child  # the name is refused when the recipe is read; nothing can be said of its options
    stated = [key for key in parent.nodes if key not in GENERIC]
    kept = [key for key in stated if _takes(part, key, parent.nodes[key])]
    dropped = [key for key in stated if key not in kept]
    said = [
        f"{word} {', '.join(f'{key}={_shown(parent.nodes[key])}' for key in keys)}"
        for word, keys in (("keeps", kept), ("drops", dropped))
        if keys
    ]
    notes.append(f"{section}: {old} -> {new}" + (f"; {'; '.join(said)}" if said else ""))
    return parent.without(*dropped)


def _takes(part: Part, key: str, node: Node) -> bool:
    if key not in part.settings:
        return False
    try:
        convert(part.settings[key].annotation, node, part.settings[key].default)
    except Misfit:
        return False
    return True


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return node.text or "null"
    if isinstance(node, Items):
        return f"[{', '.join(map(_shown, node.nodes))}]"
    return "{" + ", ".join(f"{key}: {_shown(child)}" for key, child in node.nodes.items()) + "}"
