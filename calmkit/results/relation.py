"""Relation: how two measures go together, over all models of a study: at points on the way, or at their ends.

Correlations are taken over the points of all cells at once. The points of a cell are the same model at
different ages, so they are no independent witnesses: the bootstrap draws whole cells first, and points within
each drawn cell second.

Source: what others found stands in the words of a kind of data (`RelateWords.published`).
Two-stage bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calmkit.interfaces import RelateWords
from calmkit.results.pairs import pairs_alike, pairs_text

EVERY = {"step": "steps", "flops": "training FLOPs of stage 2"}
"""What every point on the way holds."""

REPLICATES = 2000
SEED = 0
Point = dict[str, Any]


@dataclass(frozen=True)
class Relate:
    """Two measures.

    Attributes:
        x: By the names of `names_of`; of the ends of runs, any number that runs can be ranked by. y: The
        same. ends: Whether finished runs are the points, as their evaluations score them. by: Of ends: an
        axis or key of the grid; pairs of runs that agree on it are told from those that don't.
    """

    x: str
    y: str
    ends: bool = False
    by: str = ""


@dataclass(frozen=True)
class EndWords:
    """What the ends of runs are told by.

    Attributes:
        names: Stored name -> what a figure calls it.
        sign: 1 where both are better in one direction, else -1.
    """

    names: Mapping[str, str]
    sign: int


def names_of(words: RelateWords | None) -> dict[str, str]:
    """The measures of a point on the way that can be related, and what a figure calls them."""
    return {**(words.names if words else {}), **EVERY}


def measure_of(point: Point, name: str, words: RelateWords) -> float | None:
    """A measure of a point, None where it is not known."""
    if words.either and name == words.either:
        name = words.exact if words.exact in point else words.bound
    value = point.get(name)
    return None if value is None else float(value)


def relation(
    cells: list[dict[str, Any]], asked: Relate, words: RelateWords, ends: EndWords | None = None
) -> dict[str, Any]:
    """Correlations of two measures over the points of all cells.

    Left out are the untrained models, points at which one of the two is not known, and those at which one
    that is cut off stands at 0; how many, is said, and the last are kept apart to be looked at.

    Args:
        cells: Results, each with a `label` and a `curve`; where ends are asked for, that is a point for each
            finished run, and `kind` is what the cell is by `asked.by`.
        asked: Which measures.
        words: What the kind of data says of its measures.
        ends: Where these are asked for, how they are told.

    Returns:
        `pearson`, `spearman` with `_low` and `_high` of a 95 % interval (None below three points, or where a
        measure is constant), `points`, `by_cell`, `left_out`, `paper`, `names`, what both are called, and
        `series`: the points themselves, and as `cut_off` those at 0. Of ends also `kendall` with its
        interval, and `pairs` as `pairs_alike` gives them.
    """
    left_out = {"untrained": 0, "unknown": 0, "zero": 0}
    series, kinds = [], []
    for cell in cells:
        points = [_pair(point, asked, words, left_out) for point in cell["curve"]]
        known, zero = ([pair for why, pair in points if why == wanted] for wanted in ("", "zero"))
        exact = any(words.exact in point for point in cell["curve"])
        if known or zero:
            one = {"label": cell["label"], "exact": exact, "points": known}
            series.append(one | ({"cut_off": zero} if zero else {}))
            kinds += [cell.get("kind", "")] if known else []
    shown = [one for one in series if one["points"]]
    groups = [np.array(one["points"]) for one in shown]
    called = {**names_of(words), **(ends.names if ends is not None else {})}
    result: dict[str, Any] = {"x": asked.x, "y": asked.y, "points": sum(map(len, groups))}
    result["names"] = {name: called.get(name, name) for name in (asked.x, asked.y)}
    statistics = STATISTICS if ends is None else {**STATISTICS, "kendall": kendall}
    result |= _correlations(groups, statistics)
    result["by_cell"] = [
        {"label": one["label"], "points": len(group)}
        | {name: _or_none(f(group)) for name, f in statistics.items()}
        for one, group in zip(shown, groups, strict=True)
    ]
    for x, y, *theirs in words.published:
        if (asked.x, asked.y) == (x, y) and ends is None:
            result["paper"] = dict(zip(STATISTICS, theirs, strict=True))
    if ends is not None:
        result["by"] = asked.by
        result["pairs"] = pairs_alike(groups, kinds, ends.sign, REPLICATES, SEED) if asked.by else {}
    return result | {"left_out": left_out, "interval": _how(len(groups)), "series": series}


def _pair(
    point: Point, asked: Relate, words: RelateWords, left_out: dict[str, int]
) -> tuple[str, list[float] | None]:
    """Why a point is left out, empty where it is not, and its two measures as far as both are known."""
    x, y = measure_of(point, asked.x, words), measure_of(point, asked.y, words)
    clamped = any(name in (asked.x, asked.y) and point.get(name) == 0 for name in words.clamped)
    why = "untrained" if point["step"] == 0 else "unknown" if x is None or y is None else ""
    why = why or ("zero" if clamped else "")
    if why:
        left_out[why] += 1
    return why, None if x is None or y is None else [x, y]


def _how(cells: int) -> str:
    who = "cells and the points within each" if cells > 1 else "the points of its only cell"
    return f"95 % by percentiles of {REPLICATES} bootstrap replicates over {who}, seed {SEED}"


def _correlations(
    groups: list[np.ndarray], statistics: Mapping[str, Callable[[np.ndarray], float]]
) -> dict[str, float | None]:
    """The statistics of all points together, with their intervals."""
    result: dict[str, float | None] = {}
    together = np.concatenate(groups) if groups else np.zeros((0, 2))
    rng = np.random.default_rng(SEED)
    replicates = [resample(groups, rng) for _ in range(REPLICATES if len(together) > 2 else 0)]
    for name, statistic in statistics.items():
        values = np.array([statistic(replicate) for replicate in replicates])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (np.nan, np.nan)
        result |= {name: _or_none(statistic(together))}
        result |= {f"{name}_low": _or_none(low), f"{name}_high": _or_none(high)}
    return result


def resample(groups: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """As many cells as there are, with replacement, and as many points of each as it has."""
    drawn = [groups[i] for i in rng.integers(len(groups), size=len(groups))]
    return np.concatenate([group[rng.integers(len(group), size=len(group))] for group in drawn])


def pearson(points: np.ndarray) -> float:
    """Linear correlation of the columns of `[N, 2]`; NaN below three points or where one is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, points)


def spearman(points: np.ndarray) -> float:
    """Correlation of the ranks, ties at their mean; NaN as for `pearson`."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, points)


def kendall(points: np.ndarray) -> float:
    """Kendall's tau-b: pairs in one order less those in opposite ones, ties out; NaN as for `pearson`."""
    from scipy.stats import kendalltau

    if len(points) < 3 or (points == points[0]).all(0).any():
        return float("nan")
    return float(kendalltau(points[:, 0], points[:, 1]).statistic)


def _correlation(of: Callable[..., Any], points: np.ndarray) -> float:
    from scipy.stats import DegenerateDataWarning

    if len(points) < 3:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DegenerateDataWarning)
        try:
            return float(of(points[:, 0], points[:, 1]).statistic)
        except DegenerateDataWarning:  # what rounding leaves of a constant column is no spread either
            return float("nan")


STATISTICS = {"pearson": pearson, "spearman": spearman}


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def of_ends(result: dict[str, Any]) -> bool:
    """Whether the points of a relation are finished runs."""
    return "kendall" in result


def relation_text(result: dict[str, Any], words: RelateWords | None) -> list[str]:
    """The relation in lines of plain text."""
    names, ends = {**names_of(words), **result.get("names", {})}, of_ends(result)
    what = "finished runs" if ends else "points on the way"
    lines = [f"{names[result['y']]} against {names[result['x']]}, {result['points']} {what}"]
    statistics = (*STATISTICS, "kendall") if ends else STATISTICS
    for name in statistics:
        if result[name] is None:
            lines.append(f"  {name}: not known: fewer than three different points")
            continue
        paper = f"; the paper, softmax models only: {result['paper'][name]:.3f}" if "paper" in result else ""
        interval = f"({result[f'{name}_low']:.3f} to {result[f'{name}_high']:.3f})"
        lines.append(f"  {name} {result[name]:.3f} {interval}{paper}")
    lines.append(f"  Intervals: {result['interval']}.")
    lines += pairs_text(result.get("pairs") or {}, result.get("by", ""))
    left = result["left_out"]
    known = {**names_of(words), **names}
    clamped = " or ".join(known[name] for name in words.clamped) if words else ""
    zero = f"{left['zero']} points with a {clamped} of 0, " if clamped else ""
    lines.append(
        f"  Left out: {left['untrained']} untrained models, {zero}"
        f"{left['unknown']} points at which one of the two is not known."
    )
    kinds = {one["exact"] for one in result["series"]}
    if words and words.either in (result["x"], result["y"]) and len(kinds) > 1:
        lines.append("  Bounds stand among exact values: read the numbers cell by cell.")
    for one in result["by_cell"]:
        values = [f"{name} {one[name]:.3f}" for name in statistics if one[name] is not None]
        lines.append(f"  {one['label']}: {one['points']} points" + "".join(f", {v}" for v in values))
    return lines
