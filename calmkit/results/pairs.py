"""pairs: how often two numbers order two runs alike, within one kind of model and across kinds.

A number that favours a way of training would order pairs within each kind well and pairs across kinds badly.

Source: the share of pairs is (1 + tau) / 2 of Kendall's tau without ties; Kendall, A New Measure of Rank
Correlation, 1938. https://doi.org/10.1093/biomet/30.1-2.81
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Points = np.ndarray
"""`[N, 2]`: the two numbers of each run."""


def shares(points: Points, kinds: np.ndarray, sign: int) -> dict[str, tuple[float, int]]:
    """Share of the pairs that both numbers order alike, and how many pairs: `within` a kind and `across`.

    Args:
        points: Of all runs.
        kinds: `[N]` int, the kind of each run.
        sign: 1 where both numbers are better in one direction, -1 where one is better the other way.

    Returns:
        NaN and 0 where there is no pair. Pairs that one of the numbers does not tell apart are no pairs.
    """
    one, other = np.triu_indices(len(points), 1)
    x, y = (points[one] - points[other]).T
    told = (x != 0) & (y != 0)
    alike = np.sign(x) * np.sign(y) * sign > 0
    same = kinds[one] == kinds[other]
    found = {}
    for name, here in (("within", told & same), ("across", told & ~same)):
        found[name] = float(alike[here].mean()) if here.any() else float("nan"), int(here.sum())
    return found


def pairs_alike(
    groups: Sequence[Points], kinds: Sequence[str], sign: int, replicates: int, seed: int
) -> dict[str, Any]:
    """`shares` with 95 % intervals by percentiles of a bootstrap over groups and the points within each.

    Args:
        groups: Points of each cell.
        kinds: The kind of each cell.
        sign: As `shares` takes it.
        replicates: Of the bootstrap.
        seed: Of it.

    Returns:
        `within` and `across`, each `share`, `low`, `high` (None where there is no pair) and `pairs`.
    """
    if not groups:
        return {}
    names = list(dict.fromkeys(kinds))
    numbers = [np.full(len(group), names.index(kind)) for group, kind in zip(groups, kinds, strict=True)]
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {"within": [], "across": []}
    for _ in range(replicates):
        again = rng.integers(len(groups), size=len(groups)).tolist()
        picked = [(i, rng.integers(len(groups[i]), size=len(groups[i]))) for i in again]
        points = np.concatenate([groups[i][rows] for i, rows in picked])
        found = shares(points, np.concatenate([numbers[i][rows] for i, rows in picked]), sign)
        for name, (share, _) in found.items():
            drawn[name].append(share)
    result: dict[str, Any] = {}
    for name, (share, pairs) in shares(np.concatenate(groups), np.concatenate(numbers), sign).items():
        values = np.array(drawn[name])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [0.025, 0.975]).tolist() if len(values) and pairs else (None, None)
        result[name] = {"share": share if pairs else None, "low": low, "high": high, "pairs": pairs}
    return result


def pairs_text(found: dict[str, Any], by: str) -> list[str]:
    """In lines of plain text."""
    told = {"within": f"of one {by}", "across": f"of different {by}s"}
    lines = []
    for name, one in found.items():
        if one["share"] is not None:
            share = f"{100 * one['share']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
            lines.append(f"  Ordered alike by both: {share} of {one['pairs']} pairs {told[name]}.")
    return lines
