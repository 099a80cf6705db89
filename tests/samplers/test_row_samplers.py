"""Samplers of whole rows: what they wish for, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from calmkit.interfaces import Guidance, SampleOptions
from calmkit.samplers.beam import BeamSampler
from calmkit.samplers.rows import RowsSampler


def test_settings_become_wishes() -> None:
    plain = RowsSampler()
    assert (plain.options, plain.guidance, plain.beams, plain.fan) == (SampleOptions(), Guidance(1.0), 1, 1)
    wished = RowsSampler(
        temperature=0.7, num_steps=8, solver="euler", guidance=3.0, guidance_schedule="rising"
    )
    assert wished.options == SampleOptions(temperature=0.7, num_steps=8, solver="euler")
    assert wished.guidance == Guidance(3.0, "rising")
    beam = BeamSampler(beams=3, fan=5, temperature=0.9)
    assert (beam.options, beam.guidance) == (SampleOptions(temperature=0.9), Guidance())
    assert (beam.beams, beam.fan) == (3, 5)


def test_a_weight_moves_as_its_schedule_says() -> None:
    """Weight 3 over a row of two steps of half its units each, and over one of a single step, by hand."""
    moves = {"constant": [3.0, 3.0, 3.0], "rising": [2.0, 3.0, 3.0], "falling": [3.0, 2.0, 3.0]}
    for schedule, weights in moves.items():
        guidance = RowsSampler(guidance=3.0, guidance_schedule=schedule).guidance  # type: ignore[arg-type]
        assert [guidance.at(*shares) for shares in ((0.0, 0.5), (0.5, 1.0), (0.0, 1.0))] == weights


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (RowsSampler, {"temperature": 0.0}),
        (RowsSampler, {"num_steps": 0}),
        (RowsSampler, {"guidance": math.nan}),
        (RowsSampler, {"guidance": math.inf}),
        (BeamSampler, {"beams": 0}),
        (BeamSampler, {"fan": 0}),
        (BeamSampler, {"temperature": -1.0}),
    ],
)
def test_impossible_settings_are_refused_by_name(cls: type[Any], settings: dict[str, Any]) -> None:
    name = "rows" if cls is RowsSampler else "beam"
    with pytest.raises(ValueError, match=f"{name}: {next(iter(settings))} .*got .*would do"):
        cls(**settings)
