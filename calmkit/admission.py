"""What a class must be to be a part: the registry refuses by it, and the conformance kit says it as laws.

A class is asked once, when it comes through the door: its name, its constructor, which is the schema of its
section in a recipe, and the facts that its kind states on the class. What is a fact of an instance
(`Autoencoder.event`, `Sampler.options`) is asked when a recipe builds the part. A `HeadInfo` refuses values
that are none by itself.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calmkit.interfaces import (
    AnyOrderBackbone,
    Autoencoder,
    Backbone,
    Conditioner,
    Corpus,
    Embedder,
    EventSpec,
    GenerativeHead,
    Guidance,
    GuidedHead,
    HeadInfo,
    ImageAutoencoder,
    IterativeHead,
    LatentTransform,
    Order,
    RowSampler,
    SampleOptions,
    Sampler,
    TokenAutoencoder,
    Tokenizer,
    UnitwiseAutoencoder,
)

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
MUST_BE_TOLD: tuple[type, ...] = (Corpus, Tokenizer)
"""Kinds that may have a setting without a default: where somebody's data lie, only they can say."""

STARS: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
SCALARS = (int, float, bool, str, Path)
UNIONS = (typing.Union, types.UnionType)
LISTS = (list, tuple, Sequence)
MAPPINGS = (dict, Mapping)
WRITABLE = "int, float, bool, str, a Literal, a list, a mapping or a union of these"
READS = ("data", "latents", "both")


@dataclass(frozen=True)
class Setting:
    """One option of a part: a keyword-only parameter of its constructor."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """True where the constructor has no default."""
        return self.default is inspect.Parameter.empty


def settings(cls: type) -> dict[str, Setting]:
    """The keyword-only parameters of a part's constructor."""
    init = inspect.unwrap(cls.__init__)  # type: ignore[misc]
    hints = typing.get_type_hints(init)
    return {
        name: Setting(name, hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(init).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


@dataclass(frozen=True)
class Broken:
    """A law that a class does not keep, and what was seen, to be read behind its name."""

    law: str
    seen: str


def name_refusal(name: object) -> str | None:
    """Why a name can't be that of a part; None where it can."""
    if not isinstance(name, str) or not name:
        return f"the name {name!r} is not a text"
    if not NAME.fullmatch(name):
        allowed = "letters (a-z, A-Z), digits and '_', a letter first"
        return f"the name {name!r} can't be written in a recipe; allowed are {allowed}"
    if name.lower() == "null":
        return f"the name {name!r} is what a recipe writes for nothing"
    return None


def broken(cls: type, base: type, sizes: tuple[str, ...]) -> Broken | None:
    """The first law of all parts of a kind that the class does not keep; None where it keeps them all.

    Args:
        cls: Derived from `base`.
        base: Of the kind.
        sizes: That the constructor takes first, in that order.
    """
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))  # type: ignore[attr-defined]
        return Broken("a part is no abstract class", f"it is abstract; it lacks: {missing}")
    law = "the constructor is the recipe's schema"
    for seen in (*_constructor(cls, sizes), *_settings(cls, base)):
        return Broken(law, seen)
    for kind, (law, faults) in FACTS.items():
        for seen in faults(cls) if issubclass(cls, kind) else ():
            return Broken(law, seen)
    return None


def _constructor(cls: type, sizes: tuple[str, ...]) -> Iterator[str]:
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        parameters: list[inspect.Parameter] = []
    else:
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    for parameter in parameters:
        stars = STARS.get(parameter.kind)
        if stars is not None:
            taken = f"{stars}{parameter.name}"
            yield f"its constructor takes {taken}, so nobody can tell which options there are; name each"
    given = tuple(p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)
    if given != sizes:
        wanted = ", ".join((*sizes, "*", "..."))
        yield f"its constructor must be ({wanted}); it takes {given} before the star"


def _settings(cls: type, base: type) -> Iterator[str]:
    try:
        found = settings(cls)
    except Exception as error:  # an annotation is any expression
        yield f"the annotations of its constructor can't be read: {error}"
        return
    for name, setting in found.items():
        if setting.annotation is Any:
            yield f"its setting '{name}' has no annotation to check a recipe against, such as `{name}: int`"
        elif not _can_be_written(setting.annotation):
            told = getattr(setting.annotation, "__name__", setting.annotation)
            yield f"its setting '{name}' is of type {told}, which no recipe can hold; {WRITABLE} would do"
        elif not setting.required and not _is_of(setting.default, setting.annotation):
            yield f"its setting '{name}' has the default {setting.default!r}, which is not of its own type"
        if setting.required and not issubclass(base, MUST_BE_TOLD):
            yield f"its setting '{name}' has no default, and a recipe may leave any setting out"


def _can_be_written(annotation: Any) -> bool:
    """Whether a recipe can hold values of a type: what `calmkit.recipe.convert` turns text into."""
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is typing.Literal:
        return True
    if origin in UNIONS or origin in LISTS:
        return all(_can_be_written(one) for one in arguments if one is not Ellipsis)
    if origin in MAPPINGS:
        return not arguments or (arguments[0] is str and _can_be_written(arguments[1]))
    return origin in SCALARS or origin is type(None)


def _is_of(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type that a recipe can hold, so that it is read back as it is written."""
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is typing.Literal:
        return value in arguments
    if origin in UNIONS:
        return any(_is_of(value, one) for one in arguments)
    if origin in LISTS:
        fixed = origin is tuple and bool(arguments) and Ellipsis not in arguments
        if not isinstance(value, list | tuple) or (fixed and len(value) != len(arguments)):
            return False
        kinds = arguments if fixed else (arguments[:1] or (str,)) * len(value)
        return all(_is_of(one, kind) for one, kind in zip(value, kinds, strict=True))
    if origin in MAPPINGS:
        kind = arguments[1] if arguments else str
        return isinstance(value, Mapping) and all(_is_of(one, kind) for one in value.values())
    if origin in (int, float):  # True is an int to Python, and no number to a recipe
        return isinstance(value, (int, float) if origin is float else int) and not isinstance(value, bool)
    return isinstance(value, (str, Path) if origin is Path else origin)


def _head_facts(cls: type) -> Iterator[str]:
    info = getattr(cls, "info", None)
    if not isinstance(info, HeadInfo):
        yield (
            f'it states no info on the class (found {info!r}), such as `info = HeadInfo(sampling="one_step")`'
        )
        return
    if (info.sampling == "iterative") != issubclass(cls, IterativeHead):
        is_one = "is an" if issubclass(cls, IterativeHead) else "is no"
        yield f"its info.sampling is '{info.sampling}', yet it {is_one} IterativeHead; one follows the other"
    if (info.guidance in ("output", "density")) != issubclass(cls, GuidedHead):
        is_one = "is a" if issubclass(cls, GuidedHead) else "is no"
        yield f"its info.guidance is '{info.guidance}', yet it {is_one} GuidedHead; one follows the other"


def _stated(name: str, holds: Callable[[object], bool], wanted: str) -> Callable[[type], Iterator[str]]:
    """A fact that must stand on the class."""

    def faults(cls: type) -> Iterator[str]:
        value = getattr(cls, name, None)
        if not holds(value):
            yield f"it states no {name} on the class (found {value!r}); {wanted} would do"

    return faults


def _embedder_facts(cls: type) -> Iterator[str]:
    reads = getattr(cls, "reads", None)
    if reads not in READS:
        yield f"it states no reads on the class (found {reads!r}); one of {', '.join(READS)} would do"


FACTS: dict[type, tuple[str, Callable[[type], Iterator[str]]]] = {
    GenerativeHead: ("info states the facts of a head", _head_facts),
    Embedder: ("reads is 'data', 'latents' or 'both'", _embedder_facts),
    LatentTransform: (
        "keeps_gaussians is stated",
        _stated("keeps_gaussians", lambda value: isinstance(value, bool), "True or False"),
    ),
    Conditioner: (
        "reads names conditions",
        _stated("reads", lambda value: isinstance(value, tuple) and bool(value), "such as ('label',)"),
    ),
    Order: (
        "reads is 'causal' or 'any'",
        _stated("reads", lambda value: value in ("causal", "any"), "'causal' or 'any'"),
    ),
}


def missing_fact(part: object) -> str | None:
    """What a part that was built should state on itself and does not; None where it states all."""
    for kind, name, holds, wanted in INSTANCE_FACTS:
        value = getattr(part, name, None)
        if isinstance(part, kind) and not holds(value):
            return f"its constructor must set {name} to {wanted}; it is {value!r}"
    return None


def _shape(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(_count, value))


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


INSTANCE_FACTS: tuple[tuple[type, str, Callable[[object], bool], str], ...] = (
    (Autoencoder, "event", lambda value: isinstance(value, EventSpec), "an EventSpec"),
    (TokenAutoencoder, "chunk_size", _count, "a count of tokens, 1 or more"),
    (UnitwiseAutoencoder, "unit_shape", _shape, "the shape of a unit's data, counts of 1 or more"),
    (ImageAutoencoder, "layout", _shape, "the grid of its units, such as (8, 8)"),
    (LatentTransform, "event", lambda value: isinstance(value, EventSpec), "an EventSpec"),
    (Conditioner, "length", _count, "a count of units, 1 or more"),
    (AnyOrderBackbone, "hidden_dim", _count, "its width, 1 or more"),
    (RowSampler, "options", lambda value: isinstance(value, SampleOptions), "SampleOptions"),
    (RowSampler, "guidance", lambda value: isinstance(value, Guidance), "a Guidance"),
    (RowSampler, "beams", _count, "a count of rows, 1 or more"),
    (RowSampler, "fan", _count, "a count of draws, 1 or more"),
    (Backbone, "hidden_dim", _count, "its width, 1 or more"),
    (Sampler, "options", lambda value: isinstance(value, SampleOptions), "SampleOptions"),
    (Tokenizer, "vocab_size", _count, "a count of ids, 1 or more"),
)
