"""One part of a recipe, built; what it says against its settings is told with the place of the setting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from calmkit.admission import missing_fact
from calmkit.interfaces import (
    Autoencoder,
    Corpus,
    DataError,
    DataKind,
    HeldOutMeasure,
    LatentTransform,
    Tokenizer,
)
from calmkit.recipe.errors import refuse
from calmkit.recipe.schema import ALONE, METRICS, NOUNS, SECTIONS, TRANSFORMS, PartSpec, Recipe
from calmkit.registry import Manager
from calmkit.transforms.chain import Chain


def build_part(recipe: Recipe, manager: Manager, section: str, **sizes: Any) -> Any:
    """The part of a section, with the sizes its kind takes.

    Raises:
        RecipeError: CK141 it needs a size that the data don't know, CK145 it refuses its settings, or lacks a
            fact of its kind, CK146 it cannot be read.
    """
    spec = spec_of(recipe, section)
    check_sizes(recipe, manager, section, spec.name, sizes)
    with refusals(recipe, section):
        part = manager.build(SECTIONS[section], spec.name, spec.options, **sizes)
        # A tokenizer that lies in a file is read when it is first asked, by `vocab_size_of`.
        missing = None if section == "tokenizer" else missing_fact(part)
        if missing is not None:
            raise ValueError(missing)
        return part


def check_sizes(recipe: Recipe, manager: Manager, section: str, name: str, sizes: Mapping[str, Any]) -> None:
    """Refuse a part that serves another kind of data: its constructor asks for what these don't know.

    Raises:
        RecipeError: CK141.
    """
    kind = {**SECTIONS, **ALONE}[section]
    lacking = [size for size in manager.find(kind, name).sizes if size not in sizes]
    if lacking:
        corpus = recipe.data.part.name
        others = sorted(n for n, part in manager.parts[kind].items() if set(part.sizes) <= set(sizes))
        message = (
            f"{NOUNS.get(section, section)} '{name}' is built with {' and '.join(lacking)}, "
            f"which data '{corpus}' ({manager.find('corpora', corpus).cls.data_kind}) don't have"
        )
        listed = f"{kind} that would do: {', '.join(others) or 'none'}"
        help = f"{section}={others[0]} would do" if len(others) == 1 else listed
        mark = recipe.source.mark(f"{section}.name" if section in SECTIONS else section)
        raise refuse("CK141", message, mark, section, help)


def build_transform(recipe: Recipe, manager: Manager, autoencoder: Autoencoder) -> Chain | None:
    """The transforms of a recipe, each built for what the one before it gives; None where there are none.

    Raises:
        RecipeError: CK145 one refuses its settings, or values that it can't take.
    """
    event, layout = autoencoder.event, autoencoder.layout
    found: list[LatentTransform] = []
    for spec in recipe.transforms:
        with refusals(recipe, TRANSFORMS, spec):
            one = manager.build("transforms", spec.name, spec.options, event=event, layout=layout)
            missing = missing_fact(one)
            if missing is not None:
                raise ValueError(missing)
        found.append(one)
        event, layout = one.event, one.layout
    return Chain(autoencoder.event, autoencoder.layout, found) if found else None


def build_corpus(recipe: Recipe, manager: Manager) -> Corpus:
    """The corpus of a recipe.

    Raises:
        RecipeError: CK145 it refuses its settings, CK146 it cannot be read.
    """
    return build_part(recipe, manager, "data")


def kind_of(recipe: Recipe, manager: Manager) -> DataKind:
    """The kind of data of a recipe.

    Raises:
        RecipeError: CK120 nobody brings the kind that its corpus names, CK141 the corpus is none of it.
    """
    corpus = recipe.data.part.name
    cls: type[Corpus] = manager.find("corpora", corpus).cls
    name = str(cls.data_kind)
    if name not in manager.parts["data_kinds"]:
        there = ", ".join(sorted(manager.parts["data_kinds"]))
        message = (
            f"corpus '{corpus}' holds data of the kind '{name}', which nobody brings; there are: {there}"
        )
        help = "install the plugin that has it (hook calmkit_data_kinds)"
        raise refuse("CK120", message, recipe.source.mark("data.name"), "data.name", help)
    kind: DataKind = manager.build("data_kinds", name, {})
    if not issubclass(cls, kind.corpus):
        wanted = kind.corpus
        message = f"corpus '{corpus}' names the kind '{name}', and its class is no {wanted.__name__}"
        help = (
            f"derive {cls.__module__}.{cls.__qualname__} from {wanted.__module__}.{wanted.__qualname__}, or "
            "name another kind in its data_kind"
        )
        raise refuse("CK141", message, recipe.source.mark("data.name"), "data.name", help)
    return kind


def build_tokenizer(recipe: Recipe, manager: Manager) -> Tokenizer:
    """The tokenizer of a recipe, before `prepare`.

    Raises:
        RecipeError: CK145 it refuses its settings, CK146 it cannot be read.
    """
    return build_part(recipe, manager, "tokenizer")


def build_metrics(recipe: Recipe, manager: Manager) -> dict[str, HeldOutMeasure]:
    """The measures that a recipe asks for, by name.

    Raises:
        RecipeError: CK145 one refuses its settings, CK133 one is only described: every evaluation holds it.
    """
    found: dict[str, HeldOutMeasure] = {}
    for spec in recipe.evaluation.metrics:
        with refusals(recipe, METRICS, spec):
            measure = manager.build("metrics", spec.name, spec.options)
        if not isinstance(measure, HeldOutMeasure):
            message = f"'{spec.name}' is in every evaluation as far as it is known; no recipe asks for it"
            raise refuse("CK133", message, recipe.source.mark(METRICS), METRICS, "take it out of the list")
        found[spec.name] = measure
    return found


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
    spec = recipe.data.part if section == "data" else getattr(recipe, section, None)
    assert isinstance(spec, PartSpec)
    return spec


@contextmanager
def refusals(recipe: Recipe, section: str, spec: PartSpec | None = None) -> Iterator[None]:
    """Turns a part's ValueError or DataError into a RecipeError at the first setting that it names.

    Args:
        recipe: Tells where things were stated.
        section: Of the part.
        spec: The part, where the section holds several.
    """
    spec = spec_of(recipe, section) if spec is None else spec
    try:
        yield
    except (ValueError, DataError) as error:
        message = str(error)
        key = next(
            (f"{section}.{word}" for word in re.findall(r"\w+", message) if word in spec.options), section
        )
        noun = NOUNS.get(section, section)
        code = "CK146" if isinstance(error, DataError) else "CK145"
        mark = recipe.source.mark(key if key != section else f"{section}.name")
        message = message.removeprefix(f"{spec.name}: ")
        raise refuse(code, f"{noun} '{spec.name}': {message}", mark, key) from error
