"""What a recipe may set of a part: the keyword-only parameters of its constructor, and what makes them none.

The constructor is the schema of a part's section, so each setting has a type that a recipe can hold and,
where it may be left out, a default of that very type.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calmkit.interfaces import Corpus, Tokenizer

MUST_BE_TOLD: tuple[type, ...] = (Corpus, Tokenizer)
"""Kinds that may have a setting without a default: where somebody's data lie, only they can say."""

STARS: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
SCALARS = (int, float, bool, str, Path)
UNIONS = (typing.Union, types.UnionType)
LISTS = (list, tuple, Sequence)
MAPPINGS = (dict, Mapping)
WRITABLE = "int, float, bool, str, a Literal, a list, a mapping or a union of these"


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


def constructor_faults(cls: type, sizes: tuple[str, ...]) -> Iterator[str]:
    """What makes a constructor no schema, whatever its settings are.

    Args:
        cls: A part.
        sizes: That the constructor must take before the star, in that order.
    """
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


def setting_faults(cls: type, base: type) -> Iterator[str]:
    """Settings of a part that no recipe can hold or leave out.

    Args:
        cls: A part.
        base: Of its kind.
    """
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
