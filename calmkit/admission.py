"""What a class must be to be a part: the registry refuses by it, and the conformance kit says it as laws.

A class is asked once, when it comes through the door: its name, its constructor, which is the schema of its
section in a recipe (`calmkit.part_settings`), and the facts that its kind states on the class. What is a fact
of an instance (`Autoencoder.event`, `Sampler.options`) is asked when a recipe builds the part. A `HeadInfo`
refuses values that are none by itself.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from calmkit.interfaces import (
    AnyOrderBackbone,
    Autoencoder,
    Backbone,
    Conditioner,
    Embedder,
    EventSpec,
    GenerativeHead,
    Guidance,
    GuidedHead,
    HeadInfo,
    HeldOutMeasure,
    ImageAutoencoder,
    IterativeHead,
    LatentTransform,
    MeasureInfo,
    Order,
    PastReadingAutoencoder,
    RowSampler,
    SampleOptions,
    Sampler,
    TokenAutoencoder,
    Tokenizer,
    UnitwiseAutoencoder,
)
from calmkit.interfaces.head import EVENT_KINDS
from calmkit.part_settings import constructor_faults, setting_faults

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
READS = ("data", "latents", "both")


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


def number_refusal(name: str, cls: type, there: Mapping[str, str]) -> str | None:
    """Why the numbers of a measure can't stand beside those there are; None where they can.

    Args:
        name: Of the measure.
        cls: Its class.
        there: Every number there is, by the name it is stored under, and the name of its measure.
    """
    info = getattr(cls, "info", None)
    if not isinstance(info, MeasureInfo):
        return f"metrics: '{name}' has no info, or one that is no MeasureInfo: {info!r}"
    described = not issubclass(cls, HeldOutMeasure)
    if described and (info.needs or info.on_the_way or info.events != frozenset(EVENT_KINDS)):
        return (
            f"metrics: '{name}' is only described, so its needs and events would say nothing, "
            "nor would on_the_way; leave them out"
        )
    for stored in info.named(name):
        if stored in there:
            return f"metrics: '{name}' yields '{stored}', a number of '{there[stored]}' already"
        if not NAME.fullmatch(stored):
            return f"metrics: '{name}' yields '{stored}', which is no column: letters, digits and _ would do"
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
    for seen in (*constructor_faults(cls, sizes), *setting_faults(cls, base)):
        return Broken(law, seen)
    for kind, (law, faults) in FACTS.items():
        for seen in faults(cls) if issubclass(cls, kind) else ():
            return Broken(law, seen)
    return None


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
    (PastReadingAutoencoder, "past", _count, "a count of units, 1 or more"),
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
