"""Scaling: the power law of a study's finished runs, for each of the numbers that it asks for.

N is the parameters of stage 2, frozen ones too, D what it read, repeats counted. A run is one point: its
score at the end of its own training. Points on the way are left alone: under a schedule that falls to
its end, a model in mid-training is not what a shorter training would have made.

A number of which less is better is the loss itself. One of which more is better, and whose best is known,
enters as log(best / number), so that its best is a loss of 0: for a score that is a mean of chances this is
to them what cross-entropy is to a likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calmkit.interfaces import Number
from calmkit.results.power_law import REPLICATES, SEED, Law, Runs, fit_law, unidentified

Cell = Mapping[str, Any]
PARTS = ("floor", "by_size", "by_length")


@dataclass(frozen=True)
class Fit:
    """What is fitted.

    Attributes:
        y: Stored names of numbers.
        series: Axes or keys of the grid: cells that agree on them have floor and parts in common.
        exponents: Those of them that must agree for two series to share their exponents.
    """

    y: tuple[str, ...]
    series: tuple[str, ...]
    exponents: tuple[str, ...]

    def series_of(self, settings: Mapping[str, str]) -> tuple[str, ...]:
        """By which a cell's series is known."""
        return tuple(settings.get(name, "") for name in self.series)

    def group_of(self, settings: Mapping[str, str]) -> tuple[str, ...]:
        """By which is known with whom it shares exponents."""
        return tuple(settings.get(name, "") for name in self.exponents)


@dataclass(frozen=True)
class Point:
    """A finished run: its cell, seed, series, parameters, elements read, and its loss; None: not known."""

    cell: str
    seed: int
    series: str
    size: float
    length: float
    loss: float | None


def loss_of(number: Number, value: float | None) -> float | None:
    """The loss that a number stands for, above 0; None where it is unknown or stands at an end of its
    range.
    """
    if value is None or not math.isfinite(value) or value <= 0:
        return None
    if number.better == "lower":
        return value
    assert number.best is not None
    return math.log(number.best / value) if value < number.best else None


def loss_told(number: Number) -> str:
    """In words."""
    return number.name if number.better == "lower" else f"log({number.best:g} / {number.label})"


def scaling(
    cells: Sequence[Cell],
    asked: Fit,
    numbers: Mapping[str, Number],
    element: str,
    replicates: int = REPLICATES,
) -> list[dict[str, Any]]:
    """The fits of a study, one for each number and each group of series that share their exponents.

    Args:
        cells: Results, with `settings` and `trials`.
        asked: What to fit.
        numbers: Words of the numbers asked for.
        element: What trainings are counted in.
        replicates: Of the bootstrap.

    Returns:
        Plain values: `y`, `loss`, `group`, and `why` where nothing could be fitted; else `alpha` and `beta`,
        each `value`, `low`, `high`, what was fitted on, and `series`, with their parts and points. A group of
        which no run knows the number is left out.
    """
    found = []
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(asked.group_of(cell["settings"]), []).append(cell)
    for name in asked.y:
        if not any(_knows(cell, name) for cell in cells):
            why = "no run that is done was measured by it"
            head = {"y": name, "loss": loss_told(numbers[name]), "group": ""}
            found.append(head | {"why": why, "runs": 0, "left_out": []})
        for key, members in groups.items():
            if not any(_knows(cell, name) for cell in members):
                continue
            points = [p for cell in members for p in _points(cell, asked, name, numbers[name], element)]
            head = {"y": name, "loss": loss_told(numbers[name]), "group": ", ".join(filter(None, key))}
            found.append(head | _fitted(points, replicates))
    return found


def _knows(cell: Cell, name: str) -> bool:
    return any(t["evaluation"].get(name) is not None for t in cell["trials"] if t["state"] == "done")


def _points(cell: Cell, asked: Fit, name: str, number: Number, element: str) -> list[Point]:
    series = " ".join(
        value if key == "head" else f"{key.rsplit('.', 1)[-1]}={value}"
        for key, value in zip(asked.series, asked.series_of(cell["settings"]), strict=True)
        if value
    )
    return [
        Point(
            cell["label"],
            trial["seed"],
            series,
            sum(n for part, n in trial["facts"]["parameters"].items() if part != "autoencoder"),
            trial["facts"][f"lm_train_{element}s"],
            loss_of(number, trial["evaluation"].get(name)),
        )
        for trial in cell["trials"]
        if trial["state"] == "done"
    ]


def _fitted(points: Sequence[Point], replicates: int) -> dict[str, Any]:
    known = [point for point in points if point.loss is not None]
    left_out = [f"{point.cell}, seed {point.seed}" for point in points if point.loss is None]
    labels = list(dict.fromkeys(point.series for point in known))
    runs = Runs(
        np.array([labels.index(point.series) for point in known], dtype=int),
        np.array([point.size for point in known], dtype=float),
        np.array([point.length for point in known], dtype=float),
        np.array([point.loss for point in known], dtype=float),
    )
    why = unidentified(runs) if known else "no run is done whose number is within its range"
    if why:
        return {"why": why, "runs": len(known), "left_out": left_out}
    law = fit_law(runs, replicates)
    return {
        "runs": len(known),
        "left_out": left_out,
        "size_centre": law.centre[0],
        "length_centre": law.centre[1],
        "huber_width": law.width,
        "replicates": replicates,
        "bootstrap_seed": SEED,
        "at_edge": law.at_edge,
        "alpha": _number(law, 0),
        "beta": _number(law, 1),
        "series": [_one_series(law, runs, known, series, label) for series, label in enumerate(labels)],
    }


def _one_series(law: Law, runs: Runs, points: Sequence[Point], series: int, label: str) -> dict[str, Any]:
    here = np.flatnonzero(runs.series == series).tolist()
    fitted = law.loss(series, runs.size[here], runs.length[here])
    return {
        "label": label,
        **{part: _number(law, 2 + 3 * series + place) for place, part in enumerate(PARTS)},
        "misses": float(np.median(np.abs(law.apart[here]))),
        "points": [
            {
                "cell": points[i].cell,
                "seed": points[i].seed,
                "size": points[i].size,
                "length": points[i].length,
                "loss": points[i].loss,
                "fitted": float(value),
            }
            for i, value in zip(here, fitted, strict=True)
        ],
    }


def _number(law: Law, place: int) -> dict[str, float]:
    low, high = law.interval(place)
    return {"value": float(law.numbers[place]), "low": low, "high": high}
