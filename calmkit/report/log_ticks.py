"""log_ticks: a handful of round numbers for a logarithmic axis, however narrow or wide it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from calmkit.report.measures import quantity

STEPS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
"""Of a decade; the first that gives enough ticks is taken."""
FEWEST, MOST = 3, 6
APART = 0.1  # of the axis, between two ticks at least: their labels would meet


def log_axis(axis: Any, values: Sequence[float]) -> None:
    """Make an x or y axis logarithmic around positive values, with readable ticks."""
    low, high = min(values), max(values)
    margin = max(1.25, (high / low) ** 0.12)
    limits = (low / margin, high * margin)
    if axis.axis_name == "x":
        axis.axes.set_xscale("log")
        axis.axes.set_xlim(limits)
    else:
        axis.axes.set_yscale("log")
        axis.axes.set_ylim(limits)
    ticks = log_ticks(*limits)
    axis.set_ticks(ticks, tick_texts(ticks))
    axis.set_ticks([], minor=True)


def log_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two positive ones, far enough from each other to be labelled."""
    for found in _candidates(low, high):
        ticks = apart(found, low, high)
        if FEWEST <= len(ticks) <= MOST:
            return ticks
    from matplotlib.ticker import MaxNLocator

    found = [tick for tick in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if tick > 0]
    return apart([tick for tick in found if low <= tick <= high], low, high)


def _candidates(low: float, high: float) -> Iterator[list[float]]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = last - first + 1
    every = max(1, -(-decades // MOST))
    for steps in STEPS:
        numbers = [step * 10.0**n for n in range(first, last + 1, every) for step in steps]
        yield [number for number in numbers if low <= number <= high]


def apart(ticks: Sequence[float], low: float, high: float) -> list[float]:
    """Those that stand far enough from the one before them on a logarithmic axis."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or math.log(tick / kept[-1]) >= APART * math.log(high / low):
            kept.append(tick)
    return kept


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """As an axis of many decades tells them, 2 k, 50 M; with as many digits as it takes to differ."""
    texts = [quantity(tick).strip() for tick in ticks]
    if all(one != other for one, other in pairwise(texts)):
        return texts
    return [f"{tick:.10g}" for tick in ticks]
