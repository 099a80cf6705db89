"""Blocks: every trained cell measured on rows of several lengths, because the length alone moves scores.

A longer row gives its positions more before them, so they are predicted better by the same model. A
score says little without its block, which is why all tables name it.

Source: the effect was reported for the released models: issue 20 of shaochenze/calm, the code of Shao et al.,
Continuous Autoregressive Language Models, 2025. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calmkit.interfaces import DataKind
from calmkit.recipe.errors import refuse
from calmkit.recipe.schema import Recipe
from calmkit.recipe.tree import Items, Keys, Scalar
from calmkit.studies.asked_rows import Score, ends_of


@dataclass(frozen=True)
class Blocks:
    """Lengths of evaluation rows, in elements of their kind of data."""

    lengths: tuple[int, ...]


def read_blocks(root: Keys, recipes: Sequence[Recipe], kind: DataKind) -> Blocks | None:
    """The key `blocks` of a study: `[64, 128, 256]`; None where it is left out.

    Raises:
        RecipeError: CK132 for another form, CK133 for a length that stands twice or that a cell can't be
            measured on, and for kinds of data whose rows have a length of their own.
    """
    if "blocks" not in root.nodes:
        return None
    node, mark = root.nodes["blocks"], root.key_marks["blocks"]
    if not kind.row_length:
        why = kind.refuses_length(recipes[0], 0)
        raise refuse(
            "CK133", f"blocks of lengths make no sense here: {why}", mark, "blocks", "leave blocks out"
        )
    if not isinstance(node, Items) or not node.nodes:
        message = f"blocks is a list of lengths in {kind.words.element}s, such as [64, 256]"
        raise refuse("CK132", message, mark, "blocks")
    found: list[int] = []
    for item in node.nodes:
        text = item.text if isinstance(item, Scalar) else ""
        if not text.isdecimal() or int(text) < 1 or int(text) in found:
            message = "a length of blocks is a whole number above 0, and stands once"
            raise refuse("CK133", message, item.mark, "blocks")
        for recipe in recipes:
            if why := kind.refuses_length(recipe, int(text)):
                raise refuse("CK133", why, item.mark, "blocks")
        found.append(int(text))
    return Blocks(tuple(found))


def block_curve(cells: Sequence[dict[str, Any]], element: str, score: Score) -> list[dict[str, Any]]:
    """Score against block length, for each cell: what was found of each trial, over seeds.

    Returns:
        Rows of `cell`, `block_<element>s`, `context_<element>s` and `units` where they are known, the score
        (mean over seeds), its `seed_low`, `seed_high`, `text_low` and `text_high`, and `seeds`.
    """
    rows = []
    block, context = f"block_{element}s", f"context_{element}s"
    for cell in cells:
        by_length: dict[float, list[dict[str, Any]]] = {}
        for trial in (trial for trial in cell["trials"] if trial["state"] == "done"):
            for one in trial.get("blocks", []):
                by_length.setdefault(one[block], []).append(one)
        for length, found in sorted(by_length.items()):
            names = [name for name in (context, "units", score.name) if name in found[0]]
            mean = {name: sum(one[name] for one in found) / len(found) for name in names}
            head = {"cell": cell["label"], block: length, "seeds": len(found)}
            rows.append(head | mean | ends_of(found, score))
    return rows
