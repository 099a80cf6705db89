"""From a tree of text to a Recipe: every key known, every value of its type, all faults said at once."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from calmkit.part_settings import Setting
from calmkit.recipe.convert import Misfit, convert, to_node
from calmkit.recipe.errors import Mark, Problem, RecipeError, suggest
from calmkit.recipe.loggers import parts_of
from calmkit.recipe.schema import (
    ALONE,
    METRICS,
    NOUNS,
    SECTIONS,
    VERSION,
    DataSection,
    Evaluation,
    PartSpec,
    Recipe,
    Source,
)
from calmkit.recipe.sections import corpus_of, has_length, sections_of_kind, unread_of_kind
from calmkit.recipe.tree import Items, Keys, Node, Scalar
from calmkit.registry import Manager

_MISSING = object()
_RANGES: Mapping[str, Any] = {
    "at least": lambda value, limit: value >= limit,
    "above": lambda value, limit: value > limit,
    "below": lambda value, limit: value < limit,
    "like": lambda value, limit: re.fullmatch(limit.pattern, value) is not None,
}


def build_recipe(tree: Keys, manager: Manager, source: Source) -> Recipe:
    """The recipe that a complete tree says.

    Args:
        tree: Parents and overrides merged in, `extends` gone.
        manager: Where parts are looked up.
        source: Goes into the recipe.

    Raises:
        RecipeError: CK105, CK120, CK130 to CK133, all of them at once.
    """
    builder = _Builder(manager)
    version = tree.nodes.get("calmkit")
    if isinstance(version, Scalar) and version.text != str(VERSION):
        message = f"this calmkit reads recipes of version {VERSION}, got '{version.text}'"
        raise RecipeError([Problem("CK105", message, version.mark, "calmkit", f"write 'calmkit: {VERSION}'")])
    fields = builder.fields(Recipe, tree.without("source"), "")
    if "data" in fields:
        corpus = fields["data"].part.name
        builder.problems += sections_of_kind(tree, corpus, manager)
        evaluation = fields.get("evaluation", Evaluation())
        builder.problems += unread_of_kind(tree, evaluation, corpus, manager)
    if "source" in tree.nodes:
        builder.unknown("source", tree.key_marks["source"], "", Recipe)
    if builder.problems:
        raise RecipeError(builder.problems)
    return Recipe(**{**fields, "source": source})


def build_part_spec(section: str, node: Keys, manager: Manager) -> PartSpec:
    """A part's section that stands alone, such as one of a list of samplers.

    Args:
        section: Its name in a recipe, such as `sampler`.
        node: Name and settings.
        manager: Where parts are looked up.

    Raises:
        RecipeError: CK120, CK130 to CK132, all of them at once.
    """
    builder = _Builder(manager)
    spec = builder.named_part(section, node)
    if builder.problems:
        raise RecipeError(builder.problems)
    assert isinstance(spec, PartSpec)
    return spec


class _Builder:
    """Walks a tree beside the schema and gathers what is wrong."""

    def __init__(self, manager: Manager) -> None:
        self.manager, self.problems = manager, list[Problem]()

    def fields(self, cls: type, tree: Keys, path: str) -> dict[str, Any]:
        """Values for the constructor of a section; what is left out keeps its default."""
        hints, values = typing.get_type_hints(cls), dict[str, Any]()
        declared = {f.name: f for f in dataclasses.fields(cls) if f.name != "source"}
        for key in (key for key in tree.nodes if key not in declared):
            self.unknown(key, tree.key_marks.get(key, tree.mark), path, cls)
        for name, field in declared.items():
            node, dotted = tree.nodes.get(name), _join(path, name)
            if node is not None:
                value = self.value(hints[name], node, dotted)
            elif name in SECTIONS and not path and not _required(field):
                if field.default is None:
                    continue
                default: Any = field.default_factory
                value = self.part(name, default().name, Keys({}, tree.mark), tree.mark)
            elif _required(field):
                value = self.missing(name, path, tree.mark)
            else:
                continue
            if value is not _MISSING:
                self.in_range(field.metadata, value, dotted, node)
                values[name] = value
        return values

    def value(self, annotation: Any, node: Node, path: str) -> Any:
        """A value of any field: a part, a section, or something that `convert` knows."""
        if annotation == tuple[PartSpec, ...]:
            return self.listed_parts(path, node)
        members = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        section: Any = next((m for m in members if dataclasses.is_dataclass(m)), None)
        if section is None:
            return self.converted(annotation, node, path)
        if section is PartSpec and isinstance(node, Scalar) and not node.is_null:
            node = Keys({"name": node}, node.mark)
        if type(None) in members and isinstance(node, Scalar) and node.is_null:
            return None
        if not isinstance(node, Keys):
            return self.misfit(Misfit("a mapping", node), path)
        if section is PartSpec:
            return self.named_part(path, node)
        if section is DataSection:
            return self.data(node, path)
        before = len(self.problems)
        values = self.fields(section, node, path)
        return section(**values) if len(self.problems) == before else _MISSING

    def converted(self, annotation: Any, node: Node, path: str, default: Any = None) -> Any:
        """A value by its type."""
        try:
            return convert(annotation, node, default)
        except Misfit as misfit:
            return self.misfit(misfit, path)

    def data(self, node: Keys, path: str) -> Any:
        """The data section: its own field, and a corpus beside it."""
        length = next(f for f in dataclasses.fields(DataSection) if f.name == "sequence_length")
        with_length = has_length(node, self.manager)
        if not with_length and length.name in node.nodes:
            mark = node.key_marks.get(length.name, node.mark)
            message = f"rows of data '{corpus_of(node)}' have a length of their own"
            help = f"leave {_join(path, length.name)} out"
            self.problems.append(Problem("CK130", message, mark, _join(path, length.name), help))
        part = self.named_part(path, node.without(length.name))
        value: Any = length.default if with_length else None
        if with_length and length.name in node.nodes:
            value = self.converted(int, node.nodes[length.name], _join(path, length.name))
            if value is not _MISSING:
                self.in_range(length.metadata, value, _join(path, length.name), node.nodes[length.name])
        return _MISSING if _MISSING in (part, value) else DataSection(value, part)

    def named_part(self, section: str, node: Keys) -> Any:
        """A part whose name stands in its section."""
        if "name" not in node.nodes:
            return self.missing("name", section, node.mark)
        name = self.converted(str, node.nodes["name"], f"{section}.name")
        return _MISSING if name is _MISSING else self.part(section, name, node, node.nodes["name"].mark)

    def listed_parts(self, section: str, node: Node) -> Any:
        """A list of parts, each a name, or a mapping of a name and settings; one name alone is a list too."""
        if isinstance(node, Keys) or (isinstance(node, Scalar) and node.is_null):
            return self.misfit(Misfit("a list such as [a, {name: b, setting: 1}]", node), section)
        items = node.nodes if isinstance(node, Items) else (node,)
        found: list[PartSpec] = []
        for item in items:
            keys = Keys({"name": item}, item.mark) if isinstance(item, Scalar) else item
            if not isinstance(keys, Keys):
                self.misfit(Misfit("a name, or a mapping of a name and settings", item), section)
                continue
            spec = self.named_part(section, keys)
            if spec is _MISSING:
                continue
            if spec.name in [other.name for other in found]:
                noun = NOUNS.get(section, section)
                message = f"the {noun} '{spec.name}' stands twice"
                self.problems.append(Problem("CK133", message, item.mark, section))
            found.append(spec)
        return tuple(found)

    def part(self, section: str, name: str, node: Keys, mark: Mark) -> Any:
        """A part and all its settings."""
        kind, noun = {**SECTIONS, **ALONE}[section], NOUNS.get(section, section)
        parts = parts_of(kind, self.manager)
        if name not in parts:
            left_out = "".join(f"\n  left out: {r.plugin}: {r.reason}" for r in self.manager.rejected)
            help = suggest(name, parts, kind) + left_out
            if section == METRICS:
                help += f"\n  install the plugin that has it, or leave it out: {METRICS}=[]"
            self.problems.append(Problem("CK120", f"unknown {noun} '{name}'", mark, f"{section}.name", help))
            return _MISSING
        settings = parts[name].settings
        options, before = dict[str, Any](), len(self.problems)
        own = {"sequence_length"} if section == "data" else set[str]()
        for key in (key for key in node.nodes if key not in settings and key != "name"):
            help = suggest(key, settings.keys() | own, "keys")
            message = f"unknown key '{key}' of {noun} '{name}'"
            key_mark = node.key_marks.get(key, node.mark)
            self.problems.append(Problem("CK130", message, key_mark, f"{section}.{key}", help))
        for key, setting in settings.items():
            if key in node.nodes:
                options[key] = self.converted(
                    setting.annotation, node.nodes[key], f"{section}.{key}", setting.default
                )
            elif setting.required:
                self.missing(key, section, mark, f"{noun} '{name}'")
            else:
                options[key] = default_of(setting)
        return PartSpec(name, options) if len(self.problems) == before else _MISSING

    def unknown(self, key: str, mark: Mark, path: str, cls: type) -> None:
        """A key that a section does not have."""
        names = [f.name for f in dataclasses.fields(cls) if f.name != "source"]
        message = f"unknown key '{key}' of {path or 'the recipe'}"
        self.problems.append(Problem("CK130", message, mark, _join(path, key), suggest(key, names, "keys")))

    def missing(self, key: str, path: str, mark: Mark, owner: str = "") -> object:
        """A key that must be there."""
        message = f"{owner or path or 'the recipe'} needs '{key}'"
        self.problems.append(Problem("CK131", message, mark, _join(path, key)))
        return _MISSING

    def misfit(self, misfit: Misfit, path: str) -> object:
        """A value of another type."""
        self.problems.append(Problem("CK132", f"{path} {misfit}", misfit.mark, path))
        return _MISSING

    def in_range(self, metadata: Mapping[str, Any], value: Any, path: str, node: Node | None) -> None:
        """A number of a section, or each number of its tuple, within the limits of the schema."""
        for word, limit in metadata.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if (
                node is None
                or limit is None
                or value is None
                or all(_RANGES[word](n, limit) for n in numbers)
            ):
                continue
            message = f"{path} must be {word} {limit}, got {value}"
            self.problems.append(Problem("CK133", message, node.mark, path))


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def default_of(setting: Setting) -> Any:
    """The default as a file would give it: a tuple for a list is a list, so a dump is read back equal."""
    try:
        return convert(setting.annotation, to_node(setting.default, Mark("default")), setting.default)
    except Misfit:
        return setting.default


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
