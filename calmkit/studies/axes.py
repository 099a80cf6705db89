"""The axes of a study's grid: what a cell is made of, and how cells are picked.

A cell is known by what the grid sets: {axis: value}, and {key: value} where a value of an axis is a mapping
of several keys. Exclusions, conditions and the baseline pick cells by those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from calmkit.recipe.errors import Mark, refuse, suggest
from calmkit.recipe.tree import Items, Keys, Node, Scalar
from calmkit.studies.labels import setting_label

LABEL = "label"


@dataclass(frozen=True)
class Setting:
    """A key of the recipe, the text of its value, and where a study says so."""

    key: str
    value: str
    mark: Mark

    @property
    def override(self) -> str:
        """As the command line would say it."""
        return f"{self.key}={self.value}"


@dataclass(frozen=True)
class Value:
    """One value of an axis."""

    axis: str
    label: str
    settings: tuple[Setting, ...]

    @property
    def picked_by(self) -> dict[str, str]:
        """The axis by the value's label (for a scalar its text), and every key that it sets."""
        by_key = {setting.key: setting.value for setting in self.settings}
        return by_key | ({} if self.axis in by_key else {self.axis: self.label})


def read_axes(root: Keys) -> list[list[Value]]:
    """The axes of the grid, each a list of its values.

    Raises:
        RecipeError: CK132 for an empty grid, an empty axis, or another form.
    """
    grid, mark = root.nodes["grid"], root.key_marks["grid"]
    if not isinstance(grid, Keys) or not grid.nodes:
        message = "the grid is empty: it is a mapping of axes, each a list of values"
        raise refuse("CK132", message, mark, "grid", "such as grid: {head: [energy, flow]}")
    axes, among = [], _keys(grid)
    for axis, values in grid.nodes.items():
        if not isinstance(values, Items) or not values.nodes:
            message = f"the axis '{axis}' is a list of at least one value"
            raise refuse("CK132", message, grid.key_marks[axis], f"grid.{axis}")
        axes.append([_value(axis, value, among) for value in values.nodes])
    return axes


def _keys(grid: Keys) -> set[str]:
    """All keys that a grid varies."""
    found: set[str] = set()
    for axis, values in grid.nodes.items():
        for value in values.nodes if isinstance(values, Items) else ():
            found.update(value.without(LABEL).nodes if isinstance(value, Keys) else [axis])
    return found


def _value(axis: str, node: Node, among: Collection[str]) -> Value:
    """One value of an axis: a scalar for the key of that name, or several keys at once."""
    if isinstance(node, Scalar):
        key = axis.removesuffix(".name")
        label = setting_label(key, node.text, among)
        return Value(axis, label, (Setting(key, as_override(node), node.mark),))
    if not isinstance(node, Keys):
        message = f"a value of the axis '{axis}' is a scalar or a mapping"
        raise refuse("CK132", message, node.mark, f"grid.{axis}")
    settings = settings_of(node.without(LABEL))
    label_node = node.nodes.get(LABEL)
    label = label_node.text if isinstance(label_node, Scalar) else _told(settings, among)
    return Value(axis, label, settings)


def _told(settings: tuple[Setting, ...], among: Collection[str]) -> str:
    return " ".join(setting_label(one.key, one.value, among) for one in settings)


def settings_of(node: Node) -> tuple[Setting, ...]:
    """A mapping of recipe keys to values.

    Raises:
        RecipeError: CK132 it is none.
    """
    if not isinstance(node, Keys):
        raise refuse("CK132", "expected a mapping of recipe keys to values", node.mark)
    return tuple(
        Setting(key.removesuffix(".name"), as_override(value), node.key_marks.get(key, value.mark))
        for key, value in node.nodes.items()
    )


def read_pick(node: Node, axes: list[list[Value]], where: str) -> dict[str, str]:
    """{axis or key: value}, each known to the grid.

    Raises:
        RecipeError: CK132 no mapping, CK130 a name that the grid does not vary, CK133 a value it never takes.
    """
    if not isinstance(node, Keys) or not node.nodes:
        raise refuse("CK132", f"{where} picks cells by a mapping, such as {{head: flow}}", node.mark, where)
    known: dict[str, set[str]] = {}
    for axis in axes:
        for value in axis:
            for name, text in value.picked_by.items():
                known.setdefault(name, set()).add(text)
    pick: dict[str, str] = {}
    for name, child in node.nodes.items():
        mark, text = node.key_marks[name], as_override(child)
        if name not in known:
            message = f"{where} picks by '{name}', which the grid does not vary"
            raise refuse("CK130", message, mark, where, suggest(name, known, "axes and keys"))
        if text not in known[name]:
            message = f"{where} picks {name}: {text}, which the grid never takes"
            raise refuse("CK133", message, mark, where, suggest(text, known[name], "values"))
        pick[name] = text
    return pick


def picks(pick: Mapping[str, str], picked_by: Mapping[str, str]) -> bool:
    """Whether a cell is meant by {axis or key: value}."""
    return all(picked_by.get(name) == value for name, value in pick.items())


def as_override(node: Node) -> str:
    """A tree as the text of an override."""
    if isinstance(node, Scalar):
        return node.text if not node.quoted else "'" + node.text.replace("'", "''") + "'"
    if isinstance(node, Items):
        return "[" + ", ".join(map(as_override, node.nodes)) + "]"
    return "{" + ", ".join(f"{key}: {as_override(value)}" for key, value in node.nodes.items()) + "}"
