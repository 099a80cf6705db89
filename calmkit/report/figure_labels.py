"""figure_labels: names beside their points, where they meet no other name, no point and no line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

Point = tuple[float, float]
Spot = tuple[float, float, str, str]

NEAR = 6.0  # points between a point and its label
FAR = (
    15.0,
    26.0,
    38.0,
    52.0,
    68.0,
)  # where there is no room beside it: the label is tied to its point by a line
FEW = (0, 180, 90, 270, 45, 315, 135, 225)  # directions in degrees, the best first
MANY = (*FEW, 22, 338, 158, 202, 67, 293, 113, 247)
MARGIN = 6  # dots that a label may stand out of its axes, to the right
OUTSIDE = 10  # a dot out of the axes is as bad as so many overlaps
LABEL, CROSSED, MISTAKEN = 50, 5, 3  # a label on another, a line through one, one beside another's point
DISTANCE = 0.004  # of an overlap, for a point of distance: the nearest free spot is taken


def label_points(
    axes: Any,
    points: Sequence[Point],
    labels: Sequence[str],
    bold: Sequence[bool] = (),
    must: bool = True,
    size: float = 9.5,
    around: Sequence[Sequence[Point]] = (),
) -> None:
    """Write each label at the best spot beside its point, or farther away with a line to it.

    Args:
        axes: With its limits set.
        points: In data coordinates.
        labels: As matplotlib shows them.
        bold: Which stand out.
        must: Whether a label that finds no free spot beside its point is written all the same.
        size: Of the letters.
        around: Lines through corners in data coordinates, on which nothing is written either.
    """
    if not points:
        return
    axes.figure.draw_without_rendering()  # only now everything has its place
    places = axes.transData.transform(list(points))
    taken = [_box(corner, 4.0) for corner in places]
    for line in around:
        taken += [_box(corner, 2.0) for corner in _along(axes.transData.transform(list(line)))]
    written: list[Any] = []
    for number, (point, label) in enumerate(zip(points, labels, strict=True)):
        weight = "bold" if bold and bold[number] else "normal"
        style: dict[str, Any] = {"fontsize": size, "fontweight": weight, "linespacing": 0.95}
        text = axes.annotate(label, point, (0, 0), textcoords="offset points", **style)
        text.set_in_layout(False)
        costs = _costs(text, spots(far=must), places, number, taken, written)
        best = min(costs, key=lambda spot: costs[spot] + DISTANCE * math.hypot(*spot[:2]))
        if costs[best] > 0 and not must:
            text.remove()
            continue
        written.append(_moved(text, best))
        if _is_far(best):
            _tie(axes, places[number], written[-1])
            taken += [_box(corner, 1.0) for corner in _along(_tie_ends(places[number], written[-1]))]


def _costs(
    text: Any, spots: Sequence[Spot], places: Any, number: int, taken: Sequence[Any], written: Sequence[Any]
) -> dict[Spot, float]:
    """How bad each spot is for the label of one of the points, given what is taken and written."""
    others = [box for index, box in enumerate(taken) if index != number]
    costs = {}
    for spot in spots:
        box = _moved(text, spot)
        costs[spot] = _cost(text.axes, box, others) + LABEL * sum(map(box.overlaps, written))
        costs[spot] += CROSSED * _crossed(box, places[number], written) if _is_far(spot) else 0
        costs[spot] += MISTAKEN * _is_nearer_to_another(box, places, number)
    return costs


def spots(far: bool) -> list[Spot]:
    """Where a label may stand: points to the right and up, and its sides that face its point."""
    found = [_spot(NEAR, angle) for angle in FEW]
    return found + [_spot(distance, angle) for distance in FAR for angle in MANY] if far else found


def _spot(distance: float, angle: int) -> Spot:
    right, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    across = "left" if right > 0.3 else "right" if right < -0.3 else "center"
    along = "bottom" if up > 0.3 else "top" if up < -0.3 else "center"
    return distance * right, distance * up, across, along


def _moved(text: Any, spot: Spot) -> Any:
    """The box of a label at a spot, where it is left."""
    right, up, across, along = spot
    text.xyann = (right, up)
    text.set(ha=across, va=along)
    return text.get_window_extent()


def _is_far(spot: Spot) -> bool:
    return math.hypot(*spot[:2]) > 1.5 * NEAR


def _crossed(label: Any, place: Any, written: Sequence[Any]) -> int:
    """How many labels the line from a point to its far label would cross."""
    line = [_box(corner, 1.0) for corner in _along(_tie_ends(place, label))]
    return sum(any(box.overlaps(part) for part in line) for box in written)


def _is_nearer_to_another(label: Any, places: Any, number: int) -> bool:
    """Whether a label would be read as that of another point."""
    gaps = [math.dist(*_tie_ends(place, label)) for place in places]
    return min(gaps) < gaps[number] - 1


def _tie_ends(place: Any, box: Any) -> list[Point]:
    """A point and the nearest place of its label, in dots."""
    x, y = place
    return [(x, y), (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))]


def _tie(axes: Any, place: Any, box: Any) -> None:
    ends = axes.transData.inverted().transform(_tie_ends(place, box))
    (line,) = axes.plot(*zip(*ends, strict=True), color="black", alpha=0.45, linewidth=0.6, zorder=1)
    line.set_in_layout(False)


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
    """Points of a line through corners, in dots, near to each other."""
    for (x, y), (right, top) in pairwise(corners):
        steps = max(1, int(max(abs(right - x), abs(top - y)) / 4))
        yield from ((x + (right - x) * i / steps, y + (top - y) * i / steps) for i in range(steps + 1))
