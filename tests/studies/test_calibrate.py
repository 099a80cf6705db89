"""`calmkit calibrate` on a run: what is asked, what is read off, what is refused. The scores are made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from small_runs import SHORT, small_run, workshop

from calmkit.cli.main import cli
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.sharpen import SharpenSampler
from calmkit.text.kind import Text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("calibrate")) as folder:
        yield small_run(folder, "run", *SHORT, "head={name: mixture, num_components: 3}").folder


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """Collision is 2 / T for the exact sampler and 1 + 1 / T for the other: equal where 1/T is 2/T - 1."""
    seen: list[tuple[Any, int]] = []

    def score(self: Any, model: Any, sampler: Any, data: Any, *, max_units: int, **rest: Any) -> Any:
        seen.append((sampler, max_units))
        exact = isinstance(sampler, RejectionSampler)
        collision = 2 * sampler.exponent if exact else 1 + sampler.exponent
        return {
            "accuracy": 5.0, "accuracy_se": 0.25, "collision": collision, "collision_se": None,
            "flops_per_unit": 1e6, "fallback_share": 0.125 if exact else 0.0,
        }  # fmt: skip

    monkeypatch.setattr(Text, "score_sampler", score)
    return seen


def calibrate(*words: object) -> Result:
    return CliRunner().invoke(cli, ["calibrate", *map(str, words)])


def test_nominal_temperatures_are_read_off_the_exact_ones(run: Path, asked: list[tuple[Any, int]]) -> None:
    done = calibrate(
        run, "sampler=sharpen", "sampler.head_temperature=0.5", "--nominal", 0.2, "--nominal", 1, "--nominal",
        0.05, "--exact", 0.5, "--exact", 1, "--exact", 0.2, "--units", 7,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    samplers = [sampler for sampler, _ in asked]
    assert [type(one) for one in samplers] == [SharpenSampler] * 3 + [RejectionSampler] * 3
    assert [one.exponent for one in samplers] == pytest.approx([1, 5, 20, 1, 2, 5])
    assert {units for _, units in asked} == {7}
    assert [one.options.temperature for one in samplers] == [0.5] * 3 + [None] * 3
    lines = done.stdout.splitlines()
    assert lines[0].split("\t") == [
        "nominal T", "real T", "95 %", "accuracy %", "+-", "collision %", "+-", "FLOPs/choice",
    ]  # fmt: skip
    # nominal 1/5: collision 6, between 4 and 10: 1/T = 2 + 3 log(6/4) / log(10/4) = 3.3275
    assert lines[1:4] == [
        "1\t1.000\t-\t5.00\t0.25\t2.00\t-\t1e+06",
        "0.2\t0.301\t-\t5.00\t0.25\t6.00\t-\t1e+06",
        "0.05\t-\t-\t5.00\t0.25\t21.00\t-\t1e+06",
    ]
    # exact 1/2: collision 4, between 2 and 6: 1/T = 1 + 4 log 2 / log 3 = 3.5237
    # exact 1/5: collision 10, between 6 and 21: 1/T = 5 + 15 log(10/6) / log 3.5 = 11.1164
    assert lines[4:] == [
        "for real T 1: nominal T 1.000",
        "for real T 0.5: nominal T 0.284",
        "for real T 0.2: nominal T 0.090",
        "rejection met its ceiling on draws in up to 12.5% of the choices, and was not exact there",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "sampler 'direct' has no nominal temperature of its own; sampler=sharpen or"),
        (["sampler=sharpen", "--exact", 1], "two exact temperatures or more"),
        (["sampler=sharpen", "--nominal", 2], "sharpen: temperature must be in (0, 1]"),
        (["sampler=sharpen", "--exact", 0, "--exact", 1], "rejection: temperature must be in (0, 1]"),
        (["head=energy"], "overrides of sampler, evaluation, data only, got 'head=energy'"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_as_wrong_usage(
    run: Path, asked: list[tuple[Any, int]], words: list[object], told: str
) -> None:
    done = calibrate(run, *words)
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())
    assert asked == []
