"""The one door: parts are found by name, and bad ones are refused by name.

Built-in parts and guests come in through the same pluggy hooks (`calmkit.hookspecs`). Built-ins are dotted
names in one tuple, guests are entry points of the group `calmkit`. A guest that fails never stops calmkit: it
is left out, and `Manager.rejected` says why.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast

import pluggy

from calmkit import hookspecs
from calmkit.admission import broken, name_refusal, number_refusal
from calmkit.built_in import BUILTINS
from calmkit.interfaces import (
    AnyOrderBackbone,
    Autoencoder,
    Backbone,
    Conditioner,
    Corpus,
    DataKind,
    Embedder,
    GenerativeHead,
    LatentTransform,
    Launcher,
    Measure,
    Number,
    Objective,
    Order,
    RowSampler,
    Sampler,
    Tokenizer,
)
from calmkit.part_settings import Setting, settings

ENTRY_POINT_GROUP = "calmkit"


@dataclass(frozen=True)
class Kind:
    """A kind of part: the classes of which it derives from one, and the sizes its constructor gets first, in
    that order, where the class names none itself (`sizes`).
    """

    base: type | tuple[type, ...]
    sizes: tuple[str, ...] = ()

    def base_of(self, cls: type) -> type:
        """The first of the classes that a part derives from."""
        bases = self.base if isinstance(self.base, tuple) else (self.base,)
        return next((base for base in bases if issubclass(cls, base)), bases[0])


KINDS: Mapping[str, Kind] = {
    "autoencoders": Kind(Autoencoder),
    "transforms": Kind(LatentTransform),
    "conditioners": Kind(Conditioner),
    "embedders": Kind(Embedder),
    "backbones": Kind((Backbone, AnyOrderBackbone)),
    "orders": Kind(Order),
    "heads": Kind(GenerativeHead, ("hidden_dim", "event")),
    "objectives": Kind(Objective),
    "samplers": Kind((Sampler, RowSampler)),
    "corpora": Kind(Corpus),
    "tokenizers": Kind(Tokenizer),
    "launchers": Kind(Launcher),
    "metrics": Kind(Measure),
    "data_kinds": Kind(DataKind),
}


def sizes_of(kind: str, cls: type) -> tuple[str, ...]:
    """What the constructor of a part gets first, by name: what its class says in `sizes`, else its kind."""
    return getattr(cls, "sizes", KINDS[kind].sizes)


@dataclass(frozen=True)
class Part:
    """A registered part and where it came from."""

    kind: str
    name: str
    cls: Any
    plugin: str

    @property
    def settings(self) -> dict[str, Setting]:
        """What a recipe may set, in the order of the constructor."""
        return settings(self.cls)

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(self.cls) or "").split("\n", 1)[0]

    @property
    def sizes(self) -> tuple[str, ...]:
        """What the constructor gets first, by name."""
        return sizes_of(self.kind, self.cls)


@dataclass(frozen=True)
class Rejected:
    """A plugin, or one part of it, that was left out, and the reason."""

    plugin: str
    reason: str


class UnknownPart(LookupError):
    """No part of that name; the message lists those there are and every plugin that was left out."""


@dataclass
class Manager:
    """All parts of one process. Make one with `make_manager()`."""

    parts: dict[str, dict[str, Part]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    rejected: list[Rejected] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)

    def find(self, kind: str, name: str) -> Part:
        """The part of that name.

        Raises:
            UnknownPart: With the near misses, the names there are, and the plugins left out.
        """
        found = self.parts[kind].get(name)
        if found is not None:
            return found
        names = sorted(self.parts[kind])
        near = get_close_matches(name, names, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        left_out = "".join(f"\n  left out: {r.plugin}: {r.reason}" for r in self.rejected)
        raise UnknownPart(
            f"No part '{name}' among the {kind}.{hint} There are: {', '.join(names) or 'none'}.{left_out}"
        )

    def numbers(self) -> dict[str, tuple[Number, Part]]:
        """Every number that a measure describes, by the name it is stored under, and the measure it is of."""
        return {
            stored: (number, part)
            for name, part in self.parts["metrics"].items()
            for stored, number in cast(type[Measure], part.cls).info.named(name).items()
        }

    def build(self, kind: str, name: str, options: Mapping[str, Any], **sizes: Any) -> Any:
        """Construct a part: the sizes that it names first, then the options of the recipe."""
        part = self.find(kind, name)
        return part.cls(*(sizes[size] for size in part.sizes), **options)


def make_manager(guests: Iterable[importlib.metadata.EntryPoint] | None = None) -> Manager:
    """A fresh manager with the built-ins and the guests (None: those that are installed)."""
    manager = Manager()
    for dotted in BUILTINS:
        _admit(manager, importlib.import_module(dotted), dotted)
        if manager.rejected:
            raise AssertionError(f"a built-in part is wrong: {manager.rejected[0]}")
    if guests is None:
        guests = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    for entry_point in sorted(guests, key=lambda e: e.name):
        _admit_guest(manager, entry_point)
    return manager


def _admit_guest(manager: Manager, entry_point: importlib.metadata.EntryPoint) -> None:
    distribution = entry_point.dist
    name = f"{distribution.name} {distribution.version}" if distribution else entry_point.name
    try:
        _admit(manager, entry_point.load(), name)
    except (Exception, SystemExit) as error:  # a guest may fail in any way; it must not take the house down
        manager.rejected.append(Rejected(name, f"{type(error).__name__}: {error}"))


def _admit(manager: Manager, module: object, plugin: str) -> None:
    offers = _offers(module, plugin)
    if not offers:
        manager.rejected.append(
            Rejected(plugin, "it registers no part (no function marked with calmkit's hookimpl)")
        )
        return
    manager.plugins.append(plugin)
    for kind, classes in offers.items():
        for name, cls in classes.items():
            reason = refusal(kind, name, cls)
            if name in manager.parts[kind]:
                reason = f"{kind}: the name '{name}' is taken by {manager.parts[kind][name].plugin}"
            if reason is None and kind == "metrics":
                there = {stored: part.name for stored, (_, part) in manager.numbers().items()}
                reason = number_refusal(cast(str, name), cast(type, cls), there)
            if reason:
                manager.rejected.append(Rejected(plugin, reason))
            else:
                manager.parts[kind][cast(str, name)] = Part(kind, cast(str, name), cast(type, cls), plugin)


def _offers(module: object, plugin: str) -> dict[str, dict[object, object]]:
    """What a plugin's hooks return, by kind; a pluggy manager of its own keeps its mistakes from others."""
    pm = pluggy.PluginManager(hookspecs.PROJECT)
    pm.add_hookspecs(hookspecs)
    pm.register(module, name=plugin)
    pm.check_pending()
    offers: dict[str, dict[object, object]] = {}
    for kind in KINDS:
        caller = getattr(pm.hook, f"calmkit_{kind}")
        if not caller.get_hookimpls():
            continue
        classes = next(iter(caller()), None)
        if not isinstance(classes, dict):
            raise TypeError(
                f"calmkit_{kind}() must return a dict of names and classes, it returned {classes!r}"
            )
        offers[kind] = classes
    return offers


def refusal(kind: str, name: object, cls: object) -> str | None:
    """Why a class can't be a part of that kind under that name; None where it can."""
    base = KINDS[kind].base
    why = name_refusal(name)
    if why is not None:
        return f"{kind}: {why}"
    if not (isinstance(cls, type) and issubclass(cls, base)):
        bases = base if isinstance(base, tuple) else (base,)
        return f"{kind}: '{name}' is {cls!r}, not a subclass of {' or '.join(b.__name__ for b in bases)}"
    try:
        found = broken(cls, KINDS[kind].base_of(cls), sizes_of(kind, cls))
    except Exception as error:  # a class may answer in any way; its neighbours are asked all the same
        return f"{kind}: '{name}' can't be looked at: {type(error).__name__}: {error}"
    return None if found is None else f"{kind}: '{name}' is refused: {found.seen}"
