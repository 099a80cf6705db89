"""losses: what a run's loss was on the way, on the batches it learnt from and on held-out text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calmkit.training.metrics_file import read_metrics
from calmkit.training.run import Run

KINDS = {"training": "lm/train/loss", "held_out": "lm/val/loss"}
MOST = 100  # points of a curve
Points = list[list[float]]


def losses_of(run: Run) -> dict[str, Points]:
    """Of stage 2: `training` and `held_out`, each a list of `[step, loss]` in the unit of the head's loss.

    A longer list is told by `MOST` means over neighbours; what is not finite is left out. Empty without the
    csv logger.
    """
    found: dict[str, Points] = {kind: [] for kind in KINDS}
    path = run.folder / "metrics.csv"
    if not path.exists():
        return found
    for row in read_metrics(run.folder):
        for kind, column in KINDS.items():
            if text := row.get(column):
                found[kind].append([float(row["step"]) + 1, float(text)])
    return {kind: thinned(points, MOST) for kind, points in found.items()}


def thinned(points: Sequence[Sequence[float]], most: int) -> Points:
    """At most so many points, each the mean of equally many neighbours, the last of what is left."""
    known = [point for point in points if all(map(math.isfinite, point))]
    size = max(1, -(-len(known) // most))
    groups = [known[start : start + size] for start in range(0, len(known), size)]
    return [[sum(column) / len(group) for column in zip(*group, strict=True)] for group in groups]
