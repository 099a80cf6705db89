"""A recipe as the command line reads it: loaded, its swaps told, its files looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import click

from calmkit.model import CalmModel
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager


def read(name_or_path: str, overrides: Sequence[str], manager: Manager) -> Recipe:
    """The recipe; what its swaps kept and dropped goes to standard error."""
    recipe = load_recipe(name_or_path, overrides, manager)
    if is_first_process():
        for note in recipe.source.notes:
            click.echo(f"note: {note}", err=True)
    return recipe


def is_first_process() -> bool:
    """True in the process that a person started: those that Lightning starts beside it say nothing."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def look_for_files(recipe: Recipe, manager: Manager) -> None:
    """Find the files of a corpus that has some, without reading them.

    Raises:
        RecipeError: CK146 one is missing.
    """
    from calmkit.recipe.parts import build_corpus, refusals
    from calmkit.text.sized_corpus import SizedCorpus

    corpus = build_corpus(recipe, manager)
    if isinstance(corpus, SizedCorpus):
        with refusals(recipe, "data"):
            corpus.expected_bytes("train")
            corpus.expected_bytes("valid")


def parameter_counts(model: CalmModel) -> dict[str, int]:
    """Parameters of each part that has some, and of `all`."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {name: count for name, count in counts.items() if count} | {"all": sum(counts.values())}


def count_parameters(model: CalmModel) -> Iterator[str]:
    """A line for each part that has parameters, and one for all."""
    for name, count in parameter_counts(model).items():
        yield f"{name}: {count:,} parameters"
