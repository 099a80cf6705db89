"""recipes: the resolved recipes of a study's cells, and what sets each apart from the baseline's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from calmkit.recipe.completed import completed
from calmkit.recipe.resolved import flat
from calmkit.registry import Manager, make_manager
from calmkit.report.reading import Summary, baseline, done, ranked

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


def cell_recipes(summary: Summary, manager: Manager | None = None) -> list[CellRecipe]:
    """Of the first seed of each cell that is done, the best first.

    Args:
        summary: Results.
        manager: Parts, whose defaults older runs have; default all that are installed.
    """
    base = baseline(summary)
    if base is None:
        return []
    cells = [cell for cell in ranked(summary) if done(cell)]
    texts = [done(base)[0]["resolved"], *(done(cell)[0]["resolved"] for cell in cells)]
    theirs, *others = completed([flat(text) for text in texts], manager or make_manager())
    return [
        CellRecipe(cell["label"], cell is base, tuple(differing(theirs, ours)), text)
        for cell, ours, text in zip(cells, others, texts[1:], strict=True)
    ]


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
