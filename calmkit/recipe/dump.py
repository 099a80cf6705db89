"""A recipe as text: complete, with every default in place, and read back as the same recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import yaml

from calmkit.recipe.schema import DataSection, PartSpec, Recipe


class _Dumper(yaml.SafeDumper):
    """PyYAML's, but for texts with one of Unicode's line breaks, which come back as spaces unless escaped."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """In double quotes, with escapes, where there is such a break."""
        style = '"' if any(line_break in text for line_break in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML, without `extends`. Reading it gives an equal recipe."""
    return as_text(as_dict(recipe))


def as_text(values: Mapping[str, Any]) -> str:
    """Any values as YAML, in the way of a recipe."""
    style: dict[str, Any] = {
        "default_flow_style": None,
        "sort_keys": False,
        "allow_unicode": True,
        "width": 110,
    }
    return yaml.dump(_plain(dict(values)), Dumper=_Dumper, **style)


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain mappings, lists, numbers and texts, in the order of the file format."""
    return {f.name: _plain(getattr(recipe, f.name)) for f in dataclasses.fields(recipe) if f.name != "source"}


def flat(values: Mapping[str, Any], lead: str = "") -> dict[str, Any]:
    """Dotted key -> value; a list is a value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{lead}{name}.") if isinstance(value, Mapping) else {lead + name: value}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, PartSpec):
        return {"name": value.name, **{key: _plain(option) for key, option in value.options.items()}}
    if isinstance(value, DataSection):
        part = _plain(value.part)
        length = {} if value.sequence_length is None else {"sequence_length": value.sequence_length}
        return {"name": part.pop("name"), **length, **part}
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
