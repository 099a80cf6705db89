"""Samplers of a study: read with their places, left out where a head can't, lines of the figure by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from calmkit.heads.energy import EnergyHead
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import ColumnWords
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.tree import Keys, parse
from calmkit.registry import make_manager
from calmkit.report.figures import as_svg
from calmkit.report.gallery import draw
from calmkit.report.sampling_table import sampling_grid
from calmkit.results.sampling_lines import family
from calmkit.studies.sampling import SamplingWish, honoured, read_sampling
from calmkit.text.kind import Text
from calmkit.text.words import WORDS

MANAGER = make_manager(guests=[])


def read(text: str) -> SamplingWish | None:
    tree = parse(text, "s.yaml")
    assert isinstance(tree, Keys)
    return read_sampling(tree, MANAGER, Text())


def row(cell: str, name: str, accuracy: float = 10.0, **stated: Any) -> dict[str, Any]:
    label = " ".join([name, *(f"{k}={v}" for k, v in stated.items())])
    return {
        "cell": cell, "sampler": label, "name": name, "stated": stated, "units": 512, "accuracy": accuracy,
        "accuracy_se": 0.5, "collision": 2 * accuracy, "collision_se": None, "brier_lm": 3.0,
        "brier_lm_seed_low": None, "brier_lm_seed_high": None, "brier_lm_text_low": 2.5,
        "brier_lm_text_high": 3.25,
        "draws_per_unit": 50.0, "network_calls_per_unit": None, "flops_per_unit": 1234567.0,
        "mean_level": 1.75, "fallback_share": 0.125,
    }  # fmt: skip


def test_reading_by_hand() -> None:
    wish = read("samplers: [direct, {name: vote, temperature: 0.5, candidates: 50}]\nsampling_units: 64\n")
    assert wish is not None
    assert wish.units == 64
    assert [one.label for one in wish.samplers] == ["direct", "vote temperature=0.5 candidates=50"]
    assert wish.samplers[1].stated == {"temperature": 0.5, "candidates": 50}
    assert wish.samplers[0].stated == {}
    assert read("name: s") is None
    assert read("samplers: [direct]") == SamplingWish(wish.samplers[:1], 512)


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("samplers: direct", "CK132", "s.yaml:1:1"),
        ("samplers: []", "CK132", "samplers is a list"),
        ("samplers: [[direct]]", "CK132", "s.yaml:1:12  (samplers[0])"),
        ("samplers: [[direct]]", "CK132", "samplers[0] must be a name, or a mapping of a name and"),
        ("samplers: [vot]", "CK120", "did you mean 'vote'"),
        ("samplers:\n  - direct\n  - {name: vote, candidats: 5}", "CK130", "s.yaml:3:18"),
        ("samplers: [{name: vote, candidates: many}]", "CK132", "a whole number, got 'many'"),
        ("samplers: [{name: vote, temperature: 0.4}]", "CK145", "whole number, got temperature=0.4"),
        ("samplers: [direct, {name: direct}]", "CK133", "'direct' stands twice"),
        ("samplers: [direct]\nsampling_units: 0", "CK133", "s.yaml:2:1"),
        ("samplers: [direct]\nsampling_units: [3]", "CK133", "a whole number above 0, got a list"),
        ("samplers: [direct]\nsampling_units: 0", "CK133", "must be a whole number above 0, got '0'"),
        # the place and the words are those of the list, never of a recipe's one sampler
        ("samplers: [direct, vot]", "CK120", "s.yaml:1:20  (samplers[1].name)"),
        ("samplers: [{candidates: 5}]", "CK131", "samplers[0] needs 'name'"),
        ("samplers: [{name: vote, candidats: 5}]", "CK130", "(samplers[0].candidats)"),
        (
            "samplers: [{name: vote, candidates: many}]",
            "CK132",
            "error[CK132]: samplers[0].candidates must be",
        ),
        ("samplers: [{name: vote, candidates: many}]", "CK132", "(samplers[0].candidates)"),
        (
            "samplers: [direct, {name: vote, temperature: 0.4}]",
            "CK145",
            "s.yaml:1:33  (samplers[1].temperature)",
        ),
        ("samplers: [{name: vote, temperature: 0.4}]", "CK145", "sampler 'vote': 1 / temperature must"),
        ("sampling_units: 3", "CK133", "without samplers"),
    ],
)
def test_refusals(text: str, code: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read(text)
    assert raised.value.problems[0].code == code
    assert told in str(raised.value)


def test_a_head_that_does_not_offer_what_a_sampler_asks_is_left_out() -> None:
    sharp = MANAGER.build("samplers", "direct", {"head_temperature": 0.5})
    plain = MANAGER.build("samplers", "vote", {"temperature": 0.5})  # its own temperature asks nobody
    assert honoured(sharp, LocalARHead.info.options, False) == ""
    assert honoured(plain, RegressionHead.info.options, False) == ""
    assert honoured(sharp, RegressionHead.info.options, False) == "its head does not offer head_temperature"
    stepped = MANAGER.build("samplers", "direct", {"num_steps": 3})
    sharpen = MANAGER.build("samplers", "sharpen", {})
    assert (
        honoured(sharpen, EnergyHead.info.options, False)
        == "its head does not know the weights of what it draws"
    )
    assert honoured(sharpen, MixtureHead.info.options, True) == ""
    assert honoured(stepped, EnergyHead.info.options, False) == "its head does not offer num_steps"


def test_lines_by_hand() -> None:
    """Votes run along their candidates, one line per temperature; plain draws along the head's."""
    rows = [
        row("a", "direct"), row("a", "direct", head_temperature=0.5),
        row("a", "vote", temperature=0.5, candidates=10), row("a", "vote", temperature=0.5, candidates=20),
        row("a", "vote", temperature=0.25, candidates=10), row("b", "vote", temperature=0.5, candidates=10),
    ]  # fmt: skip
    found = [family(one, rows) for one in rows]
    assert found == [
        (("a", "direct"), "head_temperature"),
        (("a", "direct"), "head_temperature"),
        (("a", "vote", "temperature=0.5"), "candidates"),
        (("a", "vote", "temperature=0.5"), "candidates"),
        (("a", "vote", "temperature=0.25"), "candidates"),
        (("b", "vote", "candidates=10", "temperature=0.5"), ""),
    ]


def test_the_text_by_hand() -> None:
    result = {
        "units": 512,
        "rows": [row("a", "direct"), row("softmax", "vote", candidates=5)],
        "left_out": [{"cell": "a", "sampler": name, "why": "tired."} for name in ("vote", "greedy")],
    }
    grid = sampling_grid({"kind": {"words": WORDS.as_plain()}, "sampling": result})
    assert grid is not None
    assert [*grid.rows[0]] == [
        "a", "direct", "10.00", "0.50", "20.00", "-", "3.00", "-", "[2.50, 3.25]", "50.0", "adaptive",
        "1.23e+06", "1.75", "12.5",
    ]  # fmt: skip
    assert grid.notes[0].startswith("512 held-out units")
    assert grid.notes[1:] == ["Left out for a: vote, greedy: tired."]


def test_table_and_figure_say_what_their_kind_scores_samplers_by() -> None:
    hits = ColumnWords("hits", "hits", 1, factor=100.0)
    repeats = ColumnWords("repeats", "repeats", 1, factor=100.0)
    words = replace(WORDS, sampled=(hits, repeats)).as_plain()
    rows = [row("a", "direct") | {"hits": 0.25, "hits_se": 0.01, "repeats": 0.5, "repeats_se": None}]
    found = {
        "kind": {"words": words},
        "cells": [{"label": "a"}],
        "sampling": {"units": 8, "rows": rows, "left_out": []},
    }
    grid, drawn = sampling_grid(found), draw("collision", found)
    assert grid is not None
    assert drawn is not None
    assert [*grid.heads][2:6] == ["hits", "+-", "repeats", "+-"]
    assert [*grid.rows[0]][2:6] == ["25.0", "1.0", "50.0", "-"]
    assert grid.title.startswith("Samplers: hits and repeats")
    assert drawn.title == "Hits against repeats"
    (axes,) = drawn.figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[50.0, 25.0]]
    one = found | {"kind": {"words": replace(WORDS, sampled=(hits,)).as_plain()}}
    assert draw("collision", one) is None


def test_the_figure_has_a_line_per_family_with_its_ends_named() -> None:
    rows = [
        row("a", "vote", 10, temperature=0.5, candidates=109), row("a", "direct", 4),
        row("a", "vote", 8, temperature=0.5, candidates=101),
        row("a", "vote", 9, temperature=0.5, candidates=103),
    ]  # fmt: skip
    drawn = draw("collision", {"cells": [{"label": "a"}], "sampling": {"rows": rows}})
    assert drawn is not None
    svg = as_svg(drawn.figure)
    assert "a: vote temperature=0.5, by candidates" in svg
    assert "a: direct<" in svg
    alone = draw("collision", {"cells": [{"label": "a"}], "sampling": {"rows": rows[1:3]}})
    assert alone is not None
    assert "a: vote temperature=0.5 candidates=101<" in as_svg(alone.figure)  # as the table calls it
    assert (">101<" in svg, ">109<" in svg, ">103<" in svg) == (True, True, False)
