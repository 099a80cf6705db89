"""The key fit of a study: read by hand, and refused with its place, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import workshop

from calmkit.recipe.errors import RecipeError
from calmkit.registry import make_manager
from calmkit.results.scaling import Fit
from calmkit.studies.plan import places, plan_study
from calmkit.studies.schema import Study, load_study

HEAD = """\
calmkit_study: 1
name: s
base: small.yaml
match: {by: steps}
"""
FEW = HEAD + "grid: {head: [mixture]}\n"
CROSSED = HEAD + "grid: {backbone.hidden_dim: [8, 16, 24], stages.lm.max_steps: [3, 6, 9]}\n"
CORNER = [
    f"{{backbone.hidden_dim: {size}, stages.lm.max_steps: {steps}}}" for size in (16, 24) for steps in (6, 9)
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def read(text: str) -> Study:
    Path("s.yaml").write_text(text)
    return load_study("s.yaml", make_manager())


def test_one_number_or_several_and_series_that_may_share_exponents() -> None:
    study = read(FEW + "fit: {y: brier_lm, series: head}\n")
    assert study.fit == Fit(("brier_lm",), ("head",), ("head",))
    study = read(FEW + "fit: {y: [brier_lm, nll_per_token], series: [head], exponents: head}\n")
    assert study.fit == Fit(("brier_lm", "nll_per_token"), ("head",), ("head",))
    assert read(FEW + "fit: {y: brier_1}\n").fit == Fit(("brier_1",), (), ())
    assert read(FEW).fit is None


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("fit: brier_lm\n", "CK132", "fit is a mapping"),
        ("fit: {series: [head]}\n", "CK131", "fit needs the key 'y'"),
        ("fit: {y: brier_lm, by: head}\n", "CK130", "unknown key 'by' of fit"),
        ("fit: {y: brier}\n", "CK133", "no number that a run is measured by: 'brier'"),
        ("fit: {y: tokens_per_second}\n", "CK133", "how far it can go is not said"),
        ("fit: {y: [brier_lm, brier_lm]}\n", "CK132", "s.yaml:6:7  (fit.y)"),
        ("fit: {y: []}\n", "CK132", "a list of names, each once"),
        ("fit: {y: brier_lm, series: [hed]}\n", "CK130", "did you mean 'head'"),
        ("fit: {y: brier_lm, exponents: [head]}\n", "CK133", "its series are not told apart"),
    ],
)
def test_refusals(text: str, code: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read(FEW + text)
    assert raised.value.problems[0].code == code
    assert told in str(raised.value)


def test_a_grid_that_can_tell_the_law_is_planned_and_one_that_cannot_is_refused() -> None:
    """Three sizes and three lengths can; two lengths, of 3 and 6 steps of 8 rows of 32, or 5 cells can't."""
    fit = "fit: {y: brier_lm}\n"
    study = read(CROSSED + fit)
    planned = plan_study(study, make_manager(), places(study, Path("out")))
    assert len(planned.trials) == 9
    for text, told in (
        (CROSSED.replace("[3, 6, 9]", "[3, 6]"), "the lengths of a series are 768, 1,536, and 3 different"),
        (CROSSED + "exclude: [" + ", ".join(CORNER) + "]\n", "5 cells for 5 numbers to fit"),
    ):
        study = read(text + fit)
        with pytest.raises(RecipeError) as raised:
            plan_study(study, make_manager(), places(study, Path("out")))
        (problem,) = raised.value.problems
        assert (problem.code, problem.key) == ("CK133", "fit")
        assert told in str(raised.value)
        assert "s.yaml:" in str(raised.value)
    assert not Path("out").exists()
