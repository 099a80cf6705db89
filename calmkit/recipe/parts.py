"""One part of a recipe, built; what it says against its settings is told with the place of the setting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from calmkit.admission import missing_fact
from calmkit.interfaces import Corpus, DataError, Tokenizer
from calmkit.recipe.errors import refuse
from calmkit.recipe.schema import SECTIONS, PartSpec, Recipe
from calmkit.registry import Manager


def build_part(recipe: Recipe, manager: Manager, section: str, **sizes: Any) -> Any:
    """The part of a section, with the sizes its kind takes.

    Raises:
        RecipeError: CK145 it refuses its settings, or lacks a fact of its kind, CK146 it cannot be read.
    """
    spec = spec_of(recipe, section)
    with refusals(recipe, section):
        part = manager.build(SECTIONS[section], spec.name, spec.options, **sizes)
        # A tokenizer that lies in a file is read when it is first asked, by `vocab_size_of`.
        missing = None if section == "tokenizer" else missing_fact(part)
        if missing is not None:
            raise ValueError(missing)
        return part


def build_corpus(recipe: Recipe, manager: Manager) -> Corpus:
    """The corpus of a recipe.

    Raises:
        RecipeError: CK145 it refuses its settings, CK146 it cannot be read.
    """
    return build_part(recipe, manager, "data")


def build_tokenizer(recipe: Recipe, manager: Manager) -> Tokenizer:
    """The tokenizer of a recipe, before `prepare`.

    Raises:
        RecipeError: CK145 it refuses its settings, CK146 it cannot be read.
    """
    return build_part(recipe, manager, "tokenizer")


def vocab_size_of(recipe: Recipe, tokenizer: Tokenizer) -> int:
    """V, as the recipe's tokenizer states it before `prepare`.

    Raises:
        RecipeError: CK145 it states none, CK146 it cannot be read.
    """
    with refusals(recipe, "tokenizer"):
        missing = missing_fact(tokenizer)
        if missing is not None:
            raise ValueError(missing)
        return tokenizer.vocab_size


def spec_of(recipe: Recipe, section: str) -> PartSpec:
    """Name and options of the part of a section."""
    spec = recipe.data.part if section == "data" else getattr(recipe, section)
    assert isinstance(spec, PartSpec)
    return spec


@contextmanager
def refusals(recipe: Recipe, section: str) -> Iterator[None]:
    """Turns a part's ValueError or DataError into a RecipeError at the first setting that it names."""
    spec = spec_of(recipe, section)
    try:
        yield
    except (ValueError, DataError) as error:
        message = str(error)
        key = next(
            (f"{section}.{word}" for word in re.findall(r"\w+", message) if word in spec.options), section
        )
        noun = "corpus" if section == "data" else section
        code = "CK146" if isinstance(error, DataError) else "CK145"
        mark = recipe.source.mark(key if key != section else f"{section}.name")
        message = message.removeprefix(f"{spec.name}: ")
        raise refuse(code, f"{noun} '{spec.name}': {message}", mark, key) from error
