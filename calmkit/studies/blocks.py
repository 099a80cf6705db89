"""Blocks: every trained cell measured on rows of several lengths, because the length alone moves BrierLM.

A longer row gives its positions more text before them, so they are predicted better by the same model. A
score says little without its block, which is why all tables name it.

Source: the effect was reported for the released models: issue 20 of shaochenze/calm, the code of Shao et al.,
Continuous Autoregressive Language Models, 2025. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calmkit.recipe.errors import refuse
from calmkit.recipe.schema import Recipe
from calmkit.recipe.tree import Items, Keys, Scalar
from calmkit.studies.asked_rows import brier_lm_ends


@dataclass(frozen=True)
class Blocks:
    """Lengths of evaluation rows, in tokens."""

    lengths: tuple[int, ...]


def read_blocks(root: Keys, recipes: Sequence[Recipe]) -> Blocks | None:
    """The key `blocks` of a study: `[64, 128, 256]`; None where it is left out.

    Raises:
        RecipeError: CK132 for another form, CK133 for a length that stands twice or is no whole number of
            chunks of every cell.
    """
    if "blocks" not in root.nodes:
        return None
    node, mark = root.nodes["blocks"], root.key_marks["blocks"]
    if not isinstance(node, Items) or not node.nodes:
        raise refuse("CK132", "blocks is a list of lengths in tokens, such as [64, 256]", mark, "blocks")
    sizes = {int(recipe.autoencoder.options.get("chunk_size", 1)) for recipe in recipes}
    found: list[int] = []
    for item in node.nodes:
        text = item.text if isinstance(item, Scalar) else ""
        if not text.isdecimal() or int(text) < 1 or int(text) in found:
            message = "a length of blocks is a whole number above 0, and stands once"
            raise refuse("CK133", message, item.mark, "blocks")
        for size in sizes:
            if int(text) % size or int(text) < 8 * size:
                message = f"blocks of {text} tokens don't hold 8 or more whole chunks of {size}"
                raise refuse("CK133", message, item.mark, "blocks")
        found.append(int(text))
    return Blocks(tuple(found))


def block_curve(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Score against block length, for each cell: what was found of each trial, over seeds.

    Returns:
        Rows of `cell`, `block_tokens`, `context_tokens`, `units`, `brier_lm` (mean over seeds), its
        `seed_low`, `seed_high`, `text_low` and `text_high`, and `seeds`.
    """
    rows = []
    for cell in cells:
        by_length: dict[float, list[dict[str, Any]]] = {}
        for trial in (trial for trial in cell["trials"] if trial["state"] == "done"):
            for one in trial.get("blocks", []):
                by_length.setdefault(one["block_tokens"], []).append(one)
        for length, found in sorted(by_length.items()):
            names = ("context_tokens", "units", "brier_lm")
            mean = {name: sum(one[name] for one in found) / len(found) for name in names}
            head = {"cell": cell["label"], "block_tokens": length, "seeds": len(found)}
            rows.append(head | mean | brier_lm_ends(found))
    return rows
