"""difference: what two recipes say otherwise, by meaning: short or long, stated or left out is the same.

A resolved recipe holds every setting of every part, so two that mean the same hold the same values, however
they were written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from calmkit.recipe.dump import as_dict
from calmkit.recipe.schema import Recipe

ASIDE = ("name", "description")
"""Keys that say what a recipe is called, and nothing of what is trained."""


@final
@dataclass(frozen=True)
class Absent:
    """Stands where one side has no such key."""

    def __str__(self) -> str:
        return "-"


ABSENT = Absent()


@final
@dataclass(frozen=True)
class Difference:
    """A key that two sides don't have alike.

    Attributes:
        key: Dotted; a setting of a part in a list as `transforms[normalise].eps`.
        a: The first side's value, `ABSENT` where it has none.
        b: The second side's.
    """

    key: str
    a: Any
    b: Any

    def as_dict(self) -> dict[str, Any]:
        """Plain values by side; a side that lacks the key is left out."""
        return {name: value for name, value in (("a", self.a), ("b", self.b)) if value is not ABSENT}


def recipe_differences(a: Recipe, b: Recipe) -> list[Difference]:
    """Keys whose resolved values differ, in the order of the format; those of `ASIDE` are among them."""
    return differences(resolved_values(a), resolved_values(b))


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Keys that are not alike in two tables, section by section; a number and a truth value never are."""
    keys = list(dict.fromkeys([*a, *b]))
    sections = {section: n for n, section in enumerate(dict.fromkeys(map(_section, keys)))}
    keys.sort(key=lambda key: sections[_section(key)])
    found = (Difference(key, a.get(key, ABSENT), b.get(key, ABSENT)) for key in keys)
    return [one for one in found if not alike(one.a, one.b)]


def _section(key: str) -> str:
    return re.split(r"[.\[]", key, maxsplit=1)[0]


def alike(a: Any, b: Any) -> bool:
    """Whether two plain values are the same; what is no number is like itself."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b) or (a != a and b != b)


def resolved_values(recipe: Recipe) -> dict[str, Any]:
    """Dotted key -> value, of everything that a recipe holds."""
    return dict(leaves(as_dict(recipe)))


def leaves(values: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings; a list of parts gives their names, and settings by name."""
    for name, value in values.items():
        key = f"{lead}{name}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{key}.")
        elif _are_parts(value):
            yield key, [part["name"] for part in value]
            for part in value:
                settings = {k: v for k, v in part.items() if k != "name"}
                yield from leaves(settings, f"{key}[{part['name']}].")
        else:
            yield key, value


def shown(value: Any) -> str:
    """A value as a table has it."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def _are_parts(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(item, Mapping) and "name" in item for item in value)
    )
