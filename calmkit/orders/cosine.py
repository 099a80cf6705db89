"""How many units each step of generation adds: few at first, where little is known, many at the end.

After step k of n, floor(L cos(pi k / 2n)) of L units are still hidden, but never so many that a step would
add none.

Source: Chang et al., MaskGIT, 2022, section 3.3 (cosine schedule). https://arxiv.org/abs/2202.04200
"""

from __future__ import annotations

import math


def cosine_counts(units: int, steps: int) -> tuple[int, ...]:
    """Units that each of the steps adds: 1 or more, and `units` in all. `steps` is 1 to `units`."""
    counts, hidden = [], units
    for step in range(1, steps + 1):
        wanted = math.floor(units * math.cos(math.pi / 2 * (step / steps)))
        # 1 - x <= cos(pi x / 2): at least one unit is left for each step to come, whatever this one takes.
        left = min(wanted, hidden - 1) if step < steps else 0
        counts.append(hidden - left)
        hidden = left
    return tuple(counts)


def steps_of(order: str, steps: int | None, units: int) -> int:
    """Steps of a generation that is to draw `units` units; `steps` None: one each.

    Raises:
        ValueError: For more steps than units, some of which would draw nothing, or without a unit; naming the
            order, what came and what would do.
    """
    if units < 1:
        raise ValueError(f"{order}: there is no unit to draw, got {units}; 1 or more would do.")
    if steps is not None and steps > units:
        raise ValueError(
            f"{order}: steps is {steps}, yet only {units} units are to be drawn, at least one in each step; "
            f"steps {units} or less would do, and None is one unit per step."
        )
    return units if steps is None else steps
