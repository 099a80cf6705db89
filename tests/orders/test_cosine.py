"""How many units a step adds: the cosine schedule of MaskGIT and MAR."""

from __future__ import annotations

import pytest

from calmkit.orders.cosine import cosine_counts, steps_of


@pytest.mark.parametrize(
    ("units", "steps", "counts"),
    [
        # still hidden: floor(4 * .7071) = 2
        (4, 2, (2, 2)),
        # floor(16 * .9239) = 14, floor(16 * .7071) = 11, floor(16 * .3827) = 6
        (16, 4, (2, 3, 5, 6)),
        (256, 8, (5, 15, 24, 31, 39, 45, 48, 49)),  # the golden values of MAR
        # floor(6 * .8660) = 5, floor(6 * .5) = 3
        (6, 3, (1, 2, 3)),
        # floor(5 * .9877) = 4, floor(5 * .8910) = 4: one more is taken all the same, and so on
        (5, 5, (1, 1, 1, 1, 1)),
        (7, 1, (7,)),
    ],
)
def test_counts_by_hand(units: int, steps: int, counts: tuple[int, ...]) -> None:
    assert cosine_counts(units, steps) == counts


def test_every_step_adds_a_unit_and_all_are_added() -> None:
    for units in (*range(1, 40), 256):
        for steps in range(1, units + 1):
            counts = cosine_counts(units, steps)
            assert len(counts) == steps
            assert min(counts) >= 1
            assert sum(counts) == units


def test_none_is_one_unit_per_step() -> None:
    assert steps_of("random", None, 9) == 9
    assert steps_of("random", 4, 9) == 4
    assert cosine_counts(9, 9) == (1,) * 9


@pytest.mark.parametrize(
    ("steps", "units", "told"),
    [
        (17, 16, r"random: steps is 17, yet only 16 units .* steps 16 or less would do"),
        (None, 0, r"random: there is no unit to draw, got 0; 1 or more would do"),
    ],
)
def test_more_steps_than_units_are_refused(steps: int | None, units: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        steps_of("random", steps, units)
