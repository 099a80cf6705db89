"""completed: resolved recipes side by side, where an older one lacks a key that came later."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from calmkit.recipe.build import default_of
from calmkit.recipe.dump import as_text
from calmkit.recipe.resolved import flat
from calmkit.recipe.schema import SECTIONS, DataSection, PartSpec, Recipe
from calmkit.registry import Manager


def completed(recipes: Sequence[Mapping[str, str]], manager: Manager) -> list[dict[str, str]]:
    """The same, each with the defaults of those keys that only others state.

    A resolved recipe holds every key that there was when it was written. One that it lacks has its default,
    as far as it belongs to a section or a part that the recipe has, and the part is installed.

    Args:
        recipes: Dotted key -> value as text.
        manager: Parts.
    """
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    found = []
    for recipe in recipes:
        whole = dict(recipe)
        for key in (key for key in keys if not _stated(recipe, key)):
            default = _part_default(recipe, key, manager) or _schema_default(recipe, key)
            if default is not None:
                whole[key] = default
        found.append(whole)
    return found


def _stated(recipe: Mapping[str, str], key: str) -> bool:
    """Whether a recipe says it, or something above or below it, such as null for a whole section."""
    return any(f"{key}.".startswith(f"{own}.") or own.startswith(f"{key}.") for own in recipe)


def _part_default(recipe: Mapping[str, str], key: str, manager: Manager) -> str | None:
    """Of a setting of a part, as text; None where there is none."""
    section, _, name = key.partition(".")
    if section not in SECTIONS:
        return None
    part_name = recipe.get(f"{section}.name") or _default_part(section)
    if name == "name":
        return part_name
    part = manager.parts[SECTIONS[section]].get(part_name or "")
    setting = None if part is None else part.settings.get(name)
    return None if setting is None or setting.required else _text(default_of(setting))


def _default_part(section: str) -> str | None:
    """The part of a section that a recipe leaves out; None where it may not."""
    field = next(one for one in dataclasses.fields(Recipe) if one.name == section)
    return None if field.default_factory is dataclasses.MISSING else field.default_factory().name


def _schema_default(recipe: Mapping[str, str], key: str) -> str | None:
    """Of a field of a section that the recipe has, as text; None where there is none."""
    owner: Any = Recipe
    *sections, name = key.split(".")
    for depth, section in enumerate(sections, 1):
        annotation = typing.get_type_hints(owner).get(section)
        optional = isinstance(annotation, types.UnionType)
        members = typing.get_args(annotation) if optional else (annotation,)
        owner = next((one for one in members if dataclasses.is_dataclass(one)), None)
        path = ".".join(sections[:depth])
        there = not optional or any(own.startswith(f"{path}.") for own in recipe)
        if owner in (None, PartSpec) or not there:
            return None
    field = next((one for one in dataclasses.fields(owner) if one.name == name), None)
    if field is None or (owner is DataSection and name == "part"):
        return None
    if field.default is not dataclasses.MISSING:
        return _text(field.default)
    return None if field.default_factory is dataclasses.MISSING else _text(field.default_factory())


def _text(value: Any) -> str | None:
    """As a resolved recipe says it; None for a mapping, which has no text."""
    return flat(as_text({"value": value})).get("value")
