"""resolved: a resolved recipe as dotted keys with their values as text."""

from __future__ import annotations

from collections.abc import Iterator

from calmkit.recipe.tree import Items, Keys, Node, parse

RESOLVED = "resolved.yaml"
"""What the file is called in a run folder."""


def flat(resolved: str) -> dict[str, str]:
    """Dotted key -> value as text, of a resolved recipe."""
    return dict(_leaves(parse(resolved, RESOLVED), ""))


def _leaves(node: Node, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Keys) and node.nodes:
        for key, child in node.nodes.items():
            yield from _leaves(child, f"{path}.{key}" if path else key)
    else:
        yield path, _text(node)


def _text(node: Node) -> str:
    if isinstance(node, Items):
        return f"[{', '.join(map(_text, node.nodes))}]"
    if isinstance(node, Keys):
        return "{" + ", ".join(f"{key}: {_text(child)}" for key, child in node.nodes.items()) + "}"
    return node.text
