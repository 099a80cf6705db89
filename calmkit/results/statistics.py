"""Statistics of a study: seeds and held-out data are two sources of chance, kept apart and both stated.

seed interval   how another training would have turned out: Student's t over the seeds of a cell
text interval   how other held-out data would have scored the same models: a bootstrap over groups of
                units that come from one place, with the scores of all seeds averaged inside each replicate

The ends of the second are stored as `text_low` and `text_high`, for every kind of data; what its groups
are, its words say. Differences are taken in pairs: two cells with the same seed, scored on the same
groups. A cell ranks above another only where both intervals of their difference leave zero out (the seed
interval alone, where a measure is not kept by group); nothing is adjusted for the number of comparisons.

Source: Student's t; block bootstrap by groups: Davison and Hinkley, Bootstrap Methods and their
Application, 1997, sections 2.2 and 3.8. https://doi.org/10.1017/CBO9780511802843
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calmkit.metrics.blocks import FEWEST_GROUPS

REPLICATES = 2000
SEED = 0
Table = Mapping[int, np.ndarray]
"""A group's number -> its sums `[columns]`: what they are, the measure of the score says."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""From summed tables `[..., columns]` to scores `[...]`."""


@dataclass(frozen=True)
class Interval:
    """A mean with its two 95 % intervals; None where there is none.

    Attributes:
        mean: Over seeds.
        seeds: How many.
        seed_low: Of the seed interval, from two seeds on.
        text_low: Of the text interval, where scores by group are known.
    """

    mean: float
    seeds: int
    seed_low: float | None = None
    seed_high: float | None = None
    text_low: float | None = None
    text_high: float | None = None

    @property
    def settled(self) -> int:
        """Of a difference: 1 where both intervals lie above zero, -1 where both lie below, else 0."""
        bounds = (self.seed_low, self.seed_high, self.text_low, self.text_high)
        if None in bounds[:2] or (self.text_low is None) != (self.text_high is None):
            return 0
        known = [bound for bound in bounds if bound is not None]
        return 1 if min(known) > 0 else -1 if max(known) < 0 else 0

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


def t_975(freedom: int) -> float:
    """97.5 % quantile of Student's t with so many degrees of freedom: its middle 95 % lie within."""
    from scipy.stats import t  # takes a second to import, which only those who compare should wait for

    return float(t.ppf(0.975, freedom))


def t_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean plus and minus t s / sqrt(n); (None, None) below two values."""
    n = len(values)
    if n < 2:
        return None, None
    mean = sum(values) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_975(n - 1) * spread / math.sqrt(n)
    return mean - half, mean + half


def table_of(rows: Iterable[Sequence[float]]) -> Table:
    """A table by group of rows: its number, its sums."""
    return {int(row[0]): np.array([float(value) for value in row[1:]]) for row in rows}


def read_table(path: Path, columns: Sequence[str]) -> Table:
    """Columns of a table by group; empty where there is none, or none of these columns."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    if not rows or not set(columns) <= set(rows[0]):
        return {}
    number = next(iter(rows[0]))  # the first column, whatever its kind calls a group
    return {int(row[number]): np.array([float(row[name]) for name in columns]) for row in rows}


def replicates(cells: Sequence[Sequence[Table]], of: Statistic) -> list[np.ndarray] | None:
    """Bootstrap replicates of each cell's mean score over its seeds, all on the same draws of groups.

    Args:
        cells: Of each cell the tables of its seeds.
        of: The score.

    Returns:
        `[REPLICATES]` per cell; None where a table is missing, or where fewer than `FEWEST_GROUPS`
        groups are common to all.
    """
    tables = [table for cell in cells for table in cell]
    if not tables or not all(tables):
        return None
    common = sorted(set.intersection(*(set(table) for table in tables)))
    if len(common) < FEWEST_GROUPS:
        return None
    rng = np.random.default_rng(SEED)
    times = rng.multinomial(len(common), np.full(len(common), 1 / len(common)), size=REPLICATES)
    return [
        np.mean([of(times @ np.stack([table[d] for d in common])) for table in cell], axis=0)
        for cell in cells
    ]


def interval(values: Sequence[float], drawn: np.ndarray | None) -> Interval:
    """Of a cell's scores, one per seed, with the replicates of their mean."""
    low, high = t_interval(values)
    mean = sum(values) / len(values)
    return Interval(mean, len(values), low, high, *_percentiles(drawn))


def difference(
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    our_tables: Mapping[int, Table] | None = None,
    their_tables: Mapping[int, Table] | None = None,
    of: Statistic | None = None,
) -> Interval | None:
    """Ours minus theirs over the seeds that both have; None where they share none.

    Args:
        ours: Seed -> score.
        theirs: Seed -> score.
        our_tables: Seed -> table by group, where the score is kept by group.
        their_tables: The same.
        of: The score; needed with tables.
    """
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    drawn = None
    if of is not None and our_tables is not None and their_tables is not None:
        both = replicates([[our_tables[s] for s in seeds], [their_tables[s] for s in seeds]], of)
        drawn = None if both is None else both[0] - both[1]
    return interval([ours[s] - theirs[s] for s in seeds], drawn)


def ranks(settled: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Best and worst rank of each cell that the settled differences leave open.

    Args:
        settled: `settled[i][j]`: 1 where i is better than j, -1 where it is worse, 0 where that is open.
    """
    return [(1 + sum(one == -1 for one in row), len(row) - sum(one == 1 for one in row)) for row in settled]


def _percentiles(drawn: np.ndarray | None) -> tuple[float | None, float | None]:
    if drawn is None:
        return None, None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
