"""json_schema: recipes as a JSON Schema, with every part that is installed, for editors.

A recipe that extends another may leave anything out; a part may be its name alone, its name with settings,
or, over a parent's, settings alone. What only the parts together decide, `calmkit validate` checks.

Source: JSON Schema, draft 2020-12. https://json-schema.org/draft/2020-12/schema
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from calmkit.recipe.build import default_of
from calmkit.recipe.documented import arguments
from calmkit.recipe.limits import Like
from calmkit.recipe.loggers import parts_of
from calmkit.recipe.schema import (
    ALONE,
    NAMED,
    DataSection,
    PartSpec,
    Recipe,
)
from calmkit.registry import Manager, Part

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NEEDED = ("data", "autoencoder", "backbone", "head", "stages")
"""What a recipe states that extends none."""

Schema = dict[str, Any]

_SCALARS: Mapping[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": ["string", "number", "boolean"]},  # every plain word may be a text
    Path: {"type": ["string", "number", "boolean"]},
    type(None): {"type": "null"},
}
_BOUNDS = {"at least": "minimum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def json_schema(manager: Manager) -> Schema:
    """The schema of a recipe's file, with the settings of all parts of a manager."""
    root = _section(Recipe, manager, "")
    root["properties"]["extends"] = {
        "type": "string",
        "description": "A shipped recipe by name, or a file beside this one, that is laid under it.",
    }
    root["anyOf"] = [{"required": ["extends"]}, {"required": list(NEEDED)}]
    return {"$schema": DRAFT, "title": "A recipe of calmkit", **root}


def _section(cls: type, manager: Manager, path: str) -> Schema:
    """A mapping whose keys are the fields of a dataclass."""
    hints, said = typing.get_type_hints(cls), arguments(inspect.getdoc(cls) or "")
    properties: dict[str, Schema] = {}
    for field in dataclasses.fields(cls):
        if field.name == "source":
            continue
        dotted = f"{path}.{field.name}" if path else field.name
        schema = _field(hints[field.name], manager, dotted)
        schema = _bounded(schema, field.metadata)
        if field.default is not dataclasses.MISSING and not dataclasses.is_dataclass(field.default):
            schema = {**schema, "default": _plain(field.default)}
        if field.name in said:
            schema = {"description": said[field.name], **schema}
        properties[field.name] = schema
    lines = (inspect.getdoc(cls) or "").split("\n", 1)[0]
    return _mapping(properties, description=lines)


def _field(annotation: Any, manager: Manager, path: str) -> Schema:
    """A section, a part, a list of parts or a value."""
    if annotation == tuple[PartSpec, ...]:
        return _listed(parts_of(ALONE[path], manager))
    union = isinstance(annotation, types.UnionType)
    members = typing.get_args(annotation) if union else (annotation,)
    section: Any = next((m for m in members if dataclasses.is_dataclass(m)), None)
    if section is None:
        return of_type(annotation)
    if section in (PartSpec, DataSection):
        found = _named(manager.parts[NAMED[path]], _length() if section is DataSection else {})
    else:
        found = _section(section, manager, path)
    return {"anyOf": [found, {"type": "null"}]} if type(None) in members else found


def _length() -> dict[str, Schema]:
    field = next(f for f in dataclasses.fields(DataSection) if f.name == "sequence_length")
    said = arguments(inspect.getdoc(DataSection) or "")[field.name]
    schema = _bounded({"type": "integer"}, field.metadata)
    return {field.name: {"description": said, **schema, "default": field.default}}


def _named(parts: Mapping[str, Part], beside: Mapping[str, Schema]) -> Schema:
    """A part by its name alone, by name and settings, or over a parent's its settings alone."""
    alone: dict[str, list[Schema]] = {name: [schema] for name, schema in beside.items()}
    for part in parts.values():
        for name, schema in _settings(part).items():
            alone.setdefault(name, []).append(schema)
    over = {name: _one_of(schemas) for name, schemas in alone.items()}
    return {"anyOf": [*_by_name(parts, beside), {**_mapping(over), "not": {"required": ["name"]}}]}


def _listed(parts: Mapping[str, Part]) -> Schema:
    """A list of parts, or a single name."""
    single = _by_name(parts, {})
    return {"anyOf": [{"type": "array", "items": {"anyOf": single}}, single[0]]}


def _by_name(parts: Mapping[str, Part], beside: Mapping[str, Schema]) -> list[Schema]:
    names: Schema = {"enum": sorted(parts)}
    whole = []
    for name, part in sorted(parts.items()):
        named = {"name": {"const": name}, **beside, **_settings(part)}
        whole.append({**_mapping(named, description=part.summary), "required": ["name"]})
    return [names, *whole]


def _settings(part: Part) -> dict[str, Schema]:
    said = arguments(inspect.getdoc(part.cls) or "")
    found: dict[str, Schema] = {}
    for name, setting in part.settings.items():
        schema = of_type(setting.annotation)
        if not setting.required:
            schema = {**schema, "default": _plain(default_of(setting))}
        found[name] = {"description": said[name], **schema} if said.get(name) else schema
    return found


def of_type(annotation: Any) -> Schema:
    """The schema of a value, by the type of the field that takes it: what `calmkit.recipe.convert` reads."""
    if annotation in _SCALARS:
        return dict(_SCALARS[annotation])
    origin, inner = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _one_of([of_type(one) for one in inner])
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple and inner and Ellipsis not in inner:
        items = [of_type(one) for one in inner]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": of_type(inner[0] if inner else str)}
    assert origin in (dict, Mapping), f"no recipe holds a value of type {annotation}"
    return {"type": "object", "additionalProperties": of_type(inner[1] if inner else str)}


def _bounded(schema: Schema, limits: Mapping[str, Any]) -> Schema:
    """With limits on a number, on every number of a list, and on a text."""
    bounds: Schema = {
        _BOUNDS[word]: limit for word, limit in limits.items() if word in _BOUNDS and limit is not None
    }
    like = limits.get("like")
    if isinstance(like, Like):
        bounds |= {"pattern": f"^(?:{like.pattern})$"}
    if bounds and "prefixItems" in schema:
        return {**schema, "prefixItems": [{**item, **bounds} for item in schema["prefixItems"]]}
    return {**schema, **bounds}


def _mapping(properties: Mapping[str, Schema], description: str = "") -> Schema:
    told = {"description": description} if description else {}
    return {**told, "type": "object", "properties": dict(properties), "additionalProperties": False}


def _one_of(schemas: Sequence[Schema]) -> Schema:
    """Any of them, each once."""
    unique = [schema for n, schema in enumerate(schemas) if schema not in schemas[:n]]
    return dict(unique[0]) if len(unique) == 1 else {"anyOf": unique}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return str(value) if isinstance(value, Path) else value
