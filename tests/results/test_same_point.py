"""Samplers read at the same collision: places by hand, intervals of one seed and of several."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from calmkit.report.sampling_table import same_point_grid
from calmkit.results.same_point import Line, Names, lines_of, point_at, same_points, temperature_of
from calmkit.results.statistics import t_interval
from calmkit.studies.asked_rows import Score
from calmkit.studies.sampling_rows import names_of, over_seeds
from calmkit.text.words import WORDS

NAMES = Names("accuracy", "collision")


def row(
    name: str, collision: float, accuracy: float = 5.0, flops: float | None = 100.0, **stated: Any
) -> dict[str, Any]:
    label = " ".join([name, *(f"{key}={value}" for key, value in stated.items())])
    return {
        "sampler": label, "name": name, "stated": stated, "collision": collision, "collision_se": None,
        "accuracy": accuracy, "accuracy_se": None, "flops_per_unit": flops,
    }  # fmt: skip


def sharpen(scale: float = 1.0) -> list[dict[str, Any]]:
    """Collision doubles where 1/T grows by one; FLOPs are always 100."""
    return [row("sharpen", scale * 2.0**n, accuracy=float(n), temperature=1 / n) for n in (1, 2, 4)]


def test_a_line_holds_what_differs_in_one_temperature_three_times_at_least() -> None:
    rows = [
        row("direct", 1), row("direct", 2, head_temperature=0.7), row("direct", 4, head_temperature=0.5),
        *sharpen(),
        row("sharpen", 3, temperature=0.5, merge=False), row("sharpen", 5, temperature=0.25, merge=False),
        row("vote", 9, temperature=0.5, candidates=50), row("vote", 9, temperature=0.5, candidates=10),
    ]  # fmt: skip
    lines = lines_of(rows)
    assert list(lines) == ["sharpen by temperature", "direct by head_temperature"]
    assert [one for one, _ in lines["direct by head_temperature"]] == [1.0, 0.7, 0.5]
    assert [one for one, _ in lines["sharpen by temperature"]] == [1.0, 0.5, 0.25]


def test_between_two_settings_by_hand() -> None:
    """2, 4, 16 at 1/T = 1, 2, 4. A collision of 8 is half way from 4 to 16 in logarithms: 1/T = 3."""
    (line,) = lines_of(sharpen()).values()
    point = point_at(line, 8.0, NAMES)
    assert point is not None
    assert point.temperature == pytest.approx(1 / 3)
    assert point.right == pytest.approx(3.0)
    assert point.flops == pytest.approx(100.0)
    at_a_setting = point_at(line, 4.0, NAMES)
    assert at_a_setting is not None
    assert at_a_setting.temperature == pytest.approx(0.5)
    assert point_at(line, 1.9, NAMES) is None
    assert point_at(line, 16.1, NAMES) is None
    from_zero = [(1.0, row("sharpen", 0.0)), (0.5, row("sharpen", 4.0))]
    linear = point_at(from_zero, 1.0, NAMES)
    assert linear is not None
    assert 1 / linear.temperature == pytest.approx(1.25)


def test_one_seed_by_hand() -> None:
    exact = row("rejection", 8.0, accuracy=2.5, flops=1500.0, temperature=0.5)
    (found,) = same_points([[*sharpen(), exact]], NAMES)
    assert (found.label, found.instead, found.seeds) == (
        "sharpen by temperature",
        "rejection temperature=0.5",
        1,
    )
    assert found.temperature == (pytest.approx(1 / 3), None, None)  # no standard error, no interval
    assert found.right_more == (pytest.approx(0.5), None, None)
    assert found.fewer == (pytest.approx(15.0), None, None)


def test_standard_errors_of_one_seed_become_intervals() -> None:
    exact = row("rejection", 8.0, accuracy=2.5, flops=1500.0, temperature=0.5)
    rows = [one | {"collision_se": 0.3, "accuracy_se": 0.4} for one in [*sharpen(), exact]]
    (found,) = same_points([rows], NAMES)
    half = 1.959964 * math.hypot(0.3, 0.3)
    inverse = [2 + math.log2((8 + sign * half) / 4) for sign in (1, -1)]
    assert found.temperature[1:] == pytest.approx([1 / one for one in inverse])
    assert found.right_more[1:] == pytest.approx(
        [0.5 - 1.959964 * math.hypot(0.4, 0.4), 0.5 + 1.959964 * math.hypot(0.4, 0.4)]
    )


def test_seeds_that_a_line_does_not_reach_are_left_out_and_counted() -> None:
    trials = [
        [*sharpen(), row("rejection", 8.0, flops=flops, temperature=0.5)]
        for flops in (1000.0, 2000.0, 1800.0)
    ]
    trials[2][-1]["collision"] = 40.0
    (found,) = same_points(trials, NAMES)
    assert found.seeds == 2
    assert found.fewer == pytest.approx((15.0, *t_interval([10.0, 20.0])))


@pytest.mark.parametrize(
    "other",
    [
        row("rejection", 8.0, flops=99.0, temperature=0.5),  # cheaper already
        row("rejection", 8.0, flops=None, temperature=0.5),  # nobody knows
        row("rejection", 40.0, flops=1500.0, temperature=0.5),  # out of reach
    ],
)
def test_what_nothing_can_stand_for_is_not_listed(other: dict[str, Any]) -> None:
    assert same_points([[*sharpen(), other]], NAMES) == []
    assert same_points([], NAMES) == []


def test_calibration_reads_the_exact_line() -> None:
    """The other way about: a row of the cheap sampler on the line of the exact one."""
    exact = [(1.0, row("rejection", 2.0)), (0.5, row("rejection", 4.0)), (0.25, row("rejection", 16.0))]
    known = temperature_of(row("sharpen", 8.0, temperature=0.2), exact, NAMES)
    assert known == (pytest.approx(1 / 3), None, None)
    assert temperature_of(row("sharpen", 17.0, temperature=0.1), exact, NAMES) is None


def test_where_no_temperature_changes_anything_none_is_told() -> None:
    """A model whose draws never agree: collision 0 at each."""
    flat: Line = [(1.0, row("rejection", 0.0)), (0.5, row("rejection", 0.0))]
    assert temperature_of(row("sharpen", 0.0, temperature=0.3), flat, NAMES) is None
    falling: Line = [*flat, (0.25, row("rejection", 2.0))]
    assert temperature_of(row("sharpen", 1.0, temperature=0.3), falling, NAMES) == (1 / 3, None, None)


def test_the_table_by_hand() -> None:
    rows = [*sharpen(), row("vote", 8.0, accuracy=2.5, flops=1500.0, temperature=0.5, candidates=200)]
    kept = {"units": 64, "levels": {}, "max_draws": 9, "brier_lm": 1.0}
    trial = {"state": "done", "sampling": {"rows": [one | kept for one in rows], "left_out": []}}
    score = Score("brier_lm", lambda sums: sums[..., 0], "documents")
    assert names_of(WORDS) == NAMES
    assert names_of(replace(WORDS, sampled=())) is None
    sampling = over_seeds([{"label": "a", "trials": [trial]}], score, names_of(WORDS))
    summary = {"kind": {"words": WORDS.as_plain()}, "sampling": sampling}
    grid = same_point_grid(summary)
    assert grid is not None
    assert [*grid.rows[0]] == [
        "a", "vote temperature=0.5 candidates=200", "sharpen by temperature", "8.00", "0.333", "-", "0.50",
        "-", "100", "15.0", "-", "1",
    ]  # fmt: skip
    assert same_point_grid({"sampling": {"same_point": []}}) is None
    assert same_point_grid({}) is None
