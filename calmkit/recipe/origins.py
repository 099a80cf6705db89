"""origins: where each value of a resolved recipe came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from calmkit.recipe.difference import resolved_values
from calmkit.recipe.errors import Mark
from calmkit.recipe.schema import Recipe

DEFAULT = "default"


@final
@dataclass(frozen=True)
class Origin:
    """A value and its place.

    Attributes:
        key: Dotted.
        value: As resolved.
        place: File and line, the override, or `default`.
    """

    key: str
    value: Any
    place: str


def origins(recipe: Recipe) -> list[Origin]:
    """Every value of a recipe, with the place that stated it: of what a child states, the child's."""
    marks = recipe.source.marks
    return [Origin(key, value, _told(marks.get(key))) for key, value in resolved_values(recipe).items()]


def _told(mark: Mark | None) -> str:
    if mark is None:
        return DEFAULT
    if mark.line:
        return f"{mark.place}:{mark.line}"
    said = mark.place.removeprefix("command line (")
    return mark.place if said == mark.place else f"override {said.removesuffix(')')}"
