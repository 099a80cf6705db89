"""sampling_lines: which rows of a sampling table one line of its figure joins, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOVING = ("candidates", "head_temperature", "temperature", "num_steps")
"""Settings along which a line of the figure runs, the first that takes more than one value."""

Row = dict[str, Any]


def family(row: Row, rows: list[Row]) -> tuple[tuple[Any, ...], str]:
    """Which line of the figure a row belongs to, and the setting along which that line runs.

    A line holds the rows of one cell and sampler that differ in one setting: the first of `MOVING` that takes
    several values, with an unset one as the line's beginning.
    """
    same = [other for other in rows if (other["cell"], other["name"]) == (row["cell"], row["name"])]
    values = {name: {str(other["stated"].get(name)) for other in same} for name in MOVING}
    moving = next((name for name in MOVING if len(values[name]) > 1), "")
    rest = {k: v for k, v in sorted(row["stated"].items()) if k != moving}
    return (row["cell"], row["name"], *setting_texts(rest)), moving


def family_label(row: Row, moving: str) -> str:
    """What a line of the figure is called: as in the table, less the setting that the line runs along."""
    stated = {name: value for name, value in row["stated"].items() if name != moving}
    return " ".join([row["name"], *setting_texts(stated)])


def moving_value(row: Row, moving: str) -> float | None:
    """The setting along which a row's line runs; None where the study does not state it."""
    value = row["stated"].get(moving)
    return None if value is None else float(value)


def setting_texts(stated: Mapping[str, Any]) -> list[str]:
    """The stated settings of a sampler as `name=value`."""
    return [f"{name}={_shown(value)}" for name, value in stated.items()]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
