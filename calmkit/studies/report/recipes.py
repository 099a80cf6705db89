"""recipes: the resolved recipes of a study's cells, and what sets each apart from the baseline's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from calmkit.recipe.tree import Items, Keys, Node, parse
from calmkit.studies.report.reading import Summary, baseline, done, ranked

OWN = ("name", "description", "seed", "stages.autoencoder.init_from")
"""Keys that say which run it was, and nothing of what was trained."""


@dataclass(frozen=True)
class Line:
    """A line of a difference: `-` for the baseline or `+` for the cell, and the key with its value."""

    sign: str
    text: str


@dataclass(frozen=True)
class CellRecipe:
    """A cell's recipe as it was resolved, and its difference to the baseline's; empty for the baseline."""

    label: str
    is_baseline: bool
    difference: tuple[Line, ...]
    resolved: str


def flat(resolved: str) -> dict[str, str]:
    """Dotted key -> value as text, of a resolved recipe."""
    return dict(_leaves(parse(resolved, "resolved.yaml"), ""))


def cell_recipes(summary: Summary) -> list[CellRecipe]:
    """Of the first seed of each cell that is done, the best first."""
    base = baseline(summary)
    if base is None:
        return []
    theirs = flat(done(base)[0]["resolved"])
    found = []
    for cell in ranked(summary):
        if trials := done(cell):
            ours = flat(trials[0]["resolved"])
            lines = tuple(differing(theirs, ours))
            found.append(CellRecipe(cell["label"], cell is base, lines, trials[0]["resolved"]))
    return found


def differing(theirs: Mapping[str, str], ours: Mapping[str, str]) -> Iterator[Line]:
    """What must be taken away from theirs, and added, to have ours; `OWN` keys aside."""
    keys = [*theirs, *(key for key in ours if key not in theirs)]
    sections = list(dict.fromkeys(_section(key) for key in keys))
    for key in sorted(keys, key=lambda key: sections.index(_section(key))):
        if key not in OWN and theirs.get(key) != ours.get(key):
            for sign, value in (("-", theirs.get(key)), ("+", ours.get(key))):
                if value is not None:
                    yield Line(sign, f"{key}: {value}")


def _section(key: str) -> str:
    return key.rpartition(".")[0]


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
