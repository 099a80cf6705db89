"""figure_labels: names beside their points, where they meet no other name, no point and no line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

Point = tuple[float, float]

SPOTS = (
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (5, 5, "left", "bottom"),
    (5, -5, "left", "top"),
    (-5, 5, "right", "bottom"),
    (-5, -5, "right", "top"),
)
"""Where a label may stand: points to the right and up, and its sides that face its point."""
MARGIN = 6  # pixels that a label may stand out of its axes, to the right
OUTSIDE = 10  # a pixel out of the axes is as bad as so many overlaps


def label_points(
    axes: Any,
    points: Sequence[Point],
    labels: Sequence[str],
    bold: Sequence[bool] = (),
    must: bool = True,
    size: float = 9.5,
    around: Sequence[Sequence[Point]] = (),
) -> None:
    """Write each label at the best spot beside its point.

    Args:
        axes: With its limits set.
        points: In data coordinates.
        labels: As matplotlib shows them.
        bold: Which stand out.
        must: Whether a label that finds no free spot is written all the same.
        size: Of the letters.
        around: Lines through corners in data coordinates, on which nothing is written either.
    """
    if not points:
        return
    axes.figure.draw_without_rendering()  # only now everything has its place
    taken = [_box(corner, 4.0) for corner in axes.transData.transform(list(points))]
    for line in around:
        taken += [_box(corner, 2.0) for corner in _along(axes.transData.transform(list(line)))]
    for number, (point, label) in enumerate(zip(points, labels, strict=True)):
        weight = "bold" if bold and bold[number] else "normal"
        text = axes.annotate(
            label,
            point,
            (0, 0),
            textcoords="offset points",
            fontsize=size,
            fontweight=weight,
            linespacing=0.95,
        )
        text.set_in_layout(False)
        others = [box for index, box in enumerate(taken) if index != number]
        costs = [_cost(axes, _moved(text, spot), others) for spot in SPOTS]
        best = costs.index(min(costs))
        if costs[best] > 0 and not must:
            text.remove()
        else:
            taken.append(_moved(text, SPOTS[best]))


def _moved(text: Any, spot: tuple[int, int, str, str]) -> Any:
    """The box of a label at a spot, where it is left."""
    right, up, across, along = spot
    text.xyann = (right, up)
    text.set(ha=across, va=along)
    return text.get_window_extent()


def _cost(axes: Any, box: Any, others: Sequence[Any]) -> float:
    """How many others a box meets, and how far it stands out of its axes."""
    room = axes.get_window_extent()
    outside = max(room.x0 - box.x0, box.x1 - room.x1 - MARGIN, room.y0 - box.y0, box.y1 - room.y1, 0)
    return float(OUTSIDE * outside + sum(box.overlaps(other) for other in others))


def _box(centre: Any, half: float) -> Any:
    from matplotlib.transforms import Bbox

    x, y = centre
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _along(corners: Any) -> Iterator[Point]:
    """Points of a line through corners, in pixels, near to each other."""
    for (x, y), (right, top) in pairwise(corners):
        steps = max(1, int(max(abs(right - x), abs(top - y)) / 4))
        yield from ((x + (right - x) * i / steps, y + (top - y) * i / steps) for i in range(steps + 1))
