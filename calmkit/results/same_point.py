"""The same point: at which temperature one sampler agrees with itself as often as another, at what cost.

A sampler's nominal temperature need not be the temperature that its choices have. How often two of its
choices agree, its collision, rises as the temperature falls, so a line of settings is read where its
collision is that of the other. Against an exact sampler (`rejection`) that is a calibration: the setting that
stands for the exact temperature. Accuracy and FLOPs are read at the same place: which is right more often,
and which is cheaper.

Between two settings, accuracy and 1/T go along a straight line over the logarithm of the collision (over the
collision where one is 0), FLOPs by their logarithm.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Figures 10 and 11 (the axes).
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

from calmkit.results.sampling_lines import setting_texts
from calmkit.results.statistics import t_interval

FEWEST_SETTINGS = 3
"""Temperatures of one sampler that make a line which others are held against."""
NORMAL_975 = 1.959964

Range = tuple[float, float | None, float | None]
"""A mean, and the ends of its 95 % interval where there is one."""

Setting = tuple[float, Mapping[str, Any]]
"""A temperature, and the row of a sampler at it."""

Line = list[Setting]
"""Those of one sampler, the highest first."""


@final
@dataclass(frozen=True)
class Names:
    """What rows call how often a choice is right and how often two agree; in percent after the factors."""

    right: str
    agree: str
    right_factor: float = 1.0
    agree_factor: float = 1.0

    def right_of(self, row: Mapping[str, Any]) -> tuple[float, float]:
        """In percent, and its standard error, NaN where that is unknown."""
        return self.right_factor * row[self.right], self.right_factor * _se(row, self.right)

    def agree_of(self, row: Mapping[str, Any]) -> tuple[float, float]:
        """The same of how often two choices agree."""
        return self.agree_factor * row[self.agree], self.agree_factor * _se(row, self.agree)


@final
@dataclass(frozen=True)
class Point:
    """A place on a line of settings.

    Attributes:
        temperature: Nominal.
        right: In percent.
        right_se: Its standard error, NaN where it is unknown.
        flops: Of a choice; None where they are not known.
    """

    temperature: float
    right: float
    right_se: float
    flops: float | None


@final
@dataclass(frozen=True)
class SamePoint:
    """One sampler in place of another.

    Attributes:
        label: The sampler, with its other settings, and which temperature of it was chosen.
        instead: Label of the other.
        seeds: How many the numbers rest on: those in which the line reaches the other's collision.
        agree: Collision of both, in percent.
        temperature: Nominal.
        right_more: Its accuracy less that of the other, in percent.
        fewer: FLOPs of a choice of the other, over its own.
        flops: Its own.
    """

    label: str
    instead: str
    seeds: int
    agree: float
    temperature: Range
    right_more: Range
    fewer: Range
    flops: float

    def as_row(self) -> dict[str, Any]:
        """As plain values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}


def lines_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Line]:
    """Label -> three rows or more of one sampler that differ in one temperature alone.

    That is the sampler's own, or the head's, which is 1 where a row does not state it.
    """
    found: dict[str, Line] = {}
    for setting in ("temperature", "head_temperature"):
        lines: dict[str, Line] = {}
        for row in rows:
            value = row["stated"].get(setting, 1.0 if setting == "head_temperature" else None)
            if value is not None:
                rest = {name: other for name, other in row["stated"].items() if name != setting}
                label = " ".join([row["name"], *setting_texts(rest), "by", setting])
                lines.setdefault(label, []).append((float(value), row))
        found |= {
            label: sorted(line, key=lambda one: -one[0])
            for label, line in lines.items()
            if len(line) >= FEWEST_SETTINGS
        }
    return found


def point_at(line: Line, agree: float, names: Names) -> Point | None:
    """Where a line first has that collision, from its highest temperature down; None where it has not, or
    has it at several temperatures in a row, as where no two draws agree at any: nothing tells these apart.
    """
    for before, after in pairwise(line):
        ends = [names.agree_of(row)[0] for _, row in (before, after)]
        if ends[0] == ends[1] or not min(ends) <= agree <= max(ends):
            continue
        if min(ends) > 0:
            share = math.log(agree / ends[0]) / math.log(ends[1] / ends[0])
        else:
            share = (agree - ends[0]) / (ends[1] - ends[0])
        return _point(before, after, share, names)
    return None


def _point(before: Setting, after: Setting, share: float, names: Names) -> Point:
    inverse = [1 / temperature for temperature, _ in (before, after)]
    right = [names.right_of(row) for _, row in (before, after)]
    costs = [row.get("flops_per_unit") for _, row in (before, after)]
    flops = [math.log(cost) for cost in costs if cost]
    return Point(
        1 / _between(inverse[0], inverse[1], share),
        _between(right[0][0], right[1][0], share),
        max(right[0][1], right[1][1]),
        math.exp(_between(flops[0], flops[1], share)) if len(flops) == len(costs) else None,
    )


def same_points(trials: Sequence[Sequence[Mapping[str, Any]]], names: Names) -> list[SamePoint]:
    """Every line in place of every other sampler's row that costs more at the same collision.

    Intervals are those of Student's t over the seeds; of one seed they follow from its standard errors.

    Args:
        trials: The rows of each seed of one cell.
        names: What they call the two scores.
    """
    if not trials:
        return []
    found = []
    for label in lines_of(trials[0]):
        lines = [lines_of(rows).get(label, []) for rows in trials]
        name = lines[0][0][1]["name"]
        for instead in [row["sampler"] for row in trials[0] if row["name"] != name]:
            pairs = [
                (line, row)
                for line, rows in zip(lines, trials, strict=True)
                for row in rows
                if row["sampler"] == instead
            ]
            one = _in_place(label, instead, pairs, names)
            if one is not None and one.fewer[0] > 1:
                found.append(one)
    return found


def _in_place(
    label: str,
    instead: str,
    pairs: Sequence[tuple[Line, Mapping[str, Any]]],
    names: Names,
) -> SamePoint | None:
    agree, temperatures, gains, ratios, flops = [], [], [], [], []
    of_one: tuple[tuple[float | None, float | None], ...] = ()
    for line, row in pairs:
        here, point = names.agree_of(row)[0], point_at(line, names.agree_of(row)[0], names)
        if point is None or point.flops is None or row.get("flops_per_unit") is None:
            continue
        right, right_se = names.right_of(row)
        agree.append(here)
        temperatures.append(point.temperature)
        gains.append(point.right - right)
        ratios.append(row["flops_per_unit"] / point.flops)
        flops.append(point.flops)
        half = NORMAL_975 * math.hypot(point.right_se, right_se)
        ends = (None, None) if math.isnan(half) else (gains[-1] - half, gains[-1] + half)
        of_one = (_ends_of_one(line, row, names), ends, (None, None))
    if not agree:
        return None
    over = [t_interval(values) for values in (temperatures, gains, ratios)] if len(agree) > 1 else of_one
    temperature, more, fewer = (
        (_mean(values), *ends) for values, ends in zip((temperatures, gains, ratios), over, strict=True)
    )
    return SamePoint(label, instead, len(agree), _mean(agree), temperature, more, fewer, _mean(flops))


def temperature_of(row: Mapping[str, Any], line: Line, names: Names) -> Range | None:
    """The temperature at which a line has a row's collision, by the standard errors of one measurement; None
    where it does not go so far.
    """
    point = point_at(line, names.agree_of(row)[0], names)
    return None if point is None else (point.temperature, *_ends_of_one(line, row, names))


def _ends_of_one(line: Line, row: Mapping[str, Any], names: Names) -> tuple[float | None, float | None]:
    """The temperatures at the ends of the collision's interval; None where the line does not go so far.

    The errors of both samplers are added as independent ones, though they were scored at the same places.
    """
    agree, se = names.agree_of(row)
    _, near = min(line, key=lambda one: abs(names.agree_of(one[1])[0] - agree))
    half = NORMAL_975 * math.hypot(se, names.agree_of(near)[1])
    if math.isnan(half):
        return None, None
    warm, cold = (point_at(line, end, names) for end in (agree - half, agree + half))
    return None if cold is None else cold.temperature, None if warm is None else warm.temperature


def _between(first: float, second: float, share: float) -> float:
    return first + share * (second - first)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _se(row: Mapping[str, Any], name: str) -> float:
    value = row.get(f"{name}_se")
    return math.nan if value is None else float(value)
