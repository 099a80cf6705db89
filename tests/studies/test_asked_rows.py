"""What a study asked of its trials, over seeds: no end of an interval is an average of ends."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from calmkit.data.digest import digest
from calmkit.interfaces import KindWords
from calmkit.report.block_table import block_grid
from calmkit.results.statistics import replicates, table_of
from calmkit.studies import ask, asked_rows, blocks, sampling_rows
from calmkit.studies.asked_rows import Score, without_groups
from calmkit.studies.blocks import Blocks
from calmkit.studies.display import Display
from calmkit.studies.failures import work_folder
from calmkit.studies.plan import Places, StudyPlan, Trial
from calmkit.studies.schema import Study
from calmkit.text.metrics.described import brier_lm_of

FEW, ENOUGH = 9, 12
SCORE = Score("brier_lm", brier_lm_of, "documents")
brier_lm_ends = partial(asked_rows.ends_of, score=SCORE)
over_seeds = partial(sampling_rows.over_seeds, score=SCORE)
block_curve = partial(blocks.block_curve, element="token", score=SCORE)


def documents(score: float, count: int = ENOUGH, uneven: float = 0.0) -> list[list[float]]:
    """Of each document a number, sums and positions: two positions with a BrierLM of `score` on average."""
    found = []
    for number in range(count):
        share = 2 * score / 100 * (1 + uneven * (-1) ** number)
        found.append([float(number), *[2 * share] * 4, *[3 * share] * 4, 2.0])  # 2 a - c = share
    return found


def asked(score: float, seed: int, **more: Any) -> dict[str, Any]:
    """A trial with one sampler and one length, both with this BrierLM and the interval of its run."""
    row = {
        "sampler": "direct", "name": "direct", "stated": {}, "units": 24, "accuracy": 2.0 * score,
        "accuracy_se": 0.5, "collision": score, "collision_se": None, "accuracy_n": [score] * 4,
        "collision_n": [1.0] * 4, "brier_lm": score, "brier_lm_low": score - 1, "brier_lm_high": score + 1,
        "draws_per_unit": 1.0, "max_draws": seed, "network_calls_per_unit": None, "mean_level": None,
        "levels": {}, "fallback_share": 0.0, "documents": documents(score),
    } | more  # fmt: skip
    block = {name: row[name] for name in ("brier_lm", "brier_lm_low", "brier_lm_high", "documents")}
    block |= {"block_tokens": 64.0, "context_tokens": 30.0, "units": 24.0}
    return {"seed": seed, "state": "done", "sampling": {"rows": [row], "left_out": []}, "blocks": [block]}


def cells(*trials: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"label": "a", "trials": list(trials)}]


def test_two_seeds_by_hand() -> None:
    """3 and 5: mean 4, s = sqrt 2, half the width 12.7062 sqrt 2 / sqrt 2. All documents are alike, so no
    other text says anything else: 4 to 4. The runs say 2 to 4 and 4 to 6; the averages of these ends, 3 and
    5, are neither.
    """
    found = cells(asked(3.0, 1), asked(5.0, 2))
    (row,) = over_seeds(found)["rows"]
    (block,) = block_curve(found)
    for ends in (
        [row[f"brier_lm_{end}"] for end in ("seed_low", "seed_high", "text_low", "text_high")],
        [block[end] for end in ("seed_low", "seed_high", "text_low", "text_high")],
    ):
        assert ends == [pytest.approx(value, abs=1e-4) for value in (4 - 12.7062, 4 + 12.7062, 4.0, 4.0)]
    assert (row["brier_lm"], block["brier_lm"], row["seeds"], block["seeds"]) == (4.0, 4.0, 2, 2)
    assert not {"brier_lm_low", "brier_lm_high", "documents", "low", "high"} & {*row, *block}


def test_the_text_interval_averages_scores_of_the_same_documents() -> None:
    """One seed is high where the other is low: each alone is unsure of the text, their mean is not."""
    tables = [documents(4.0, uneven=0.5), documents(4.0, uneven=-0.5)]
    alone = brier_lm_ends([{"brier_lm": 4.0, "documents": tables[0]}])
    both = brier_lm_ends([{"brier_lm": 4.0, "documents": one} for one in tables])
    assert alone["text_low"] is not None
    assert alone["text_low"] < 3.2
    assert (both["text_low"], both["text_high"]) == (pytest.approx(4.0), pytest.approx(4.0))
    drawn = replicates([[table_of(one) for one in tables]], brier_lm_of)
    assert drawn is not None
    assert both["text_low"] == np.quantile(drawn[0], 0.025)


@pytest.mark.parametrize("known", [[], None, documents(3.0, FEW)])
def test_one_seed_and_unknown_documents_leave_nothing_to_say(known: list[list[float]] | None) -> None:
    assert set(brier_lm_ends([{"brier_lm": 3.0, "documents": known}]).values()) == {None}
    assert set(brier_lm_ends([{"brier_lm": 3.0}]).values()) == {None}


def test_seeds_that_all_stand_where_the_score_is_clamped_say_nothing() -> None:
    """0 and 0 would have an interval without width; 0 and 2 have theirs: 1 plus and minus 12.7062."""
    none = brier_lm_ends([{"brier_lm": 0.0, "documents": documents(2.0)} for _ in range(2)])
    assert (none["seed_low"], none["seed_high"]) == (None, None)
    assert none["text_low"] == pytest.approx(2.0)  # the documents are another matter
    one = brier_lm_ends([{"brier_lm": 0.0}, {"brier_lm": 2.0}])
    assert one["seed_high"] == pytest.approx(13.7062, abs=1e-4)


def test_all_seeds_count_in_every_mean() -> None:
    """The first knows no level and draws once; levels 3 and 2 of the second are half of all choices each."""
    (row,) = over_seeds(
        cells(asked(3.0, 1), asked(5.0, 9, levels={"3": 0.5, "2": 0.5}, mean_level=2.5, units=24))
    )["rows"]
    assert (row["mean_level"], row["levels"], row["max_draws"]) == (2.5, {"3": 0.25, "2": 0.25}, 9)
    assert (row["accuracy"], row["accuracy_n"]) == (8.0, [4.0] * 4)
    assert row["accuracy_se"] == pytest.approx(2.0)  # of 6 and 10: s = sqrt 8, over sqrt 2
    assert row["collision_se"] == pytest.approx(1.0)


def test_rows_are_averaged_whatever_their_kind_scores_samplers_by() -> None:
    """Numbers and lists of numbers by their means; what has a standard error gets that over seeds."""
    other = {
        "hits": 1.0, "hits_se": None, "by_length": [1.0, 2.0], "crps": 3.0, "levels": {}, "max_draws": 1,
        "sampler": "direct", "units": 4, "recordings": [[0.0, 3.0, 1.0]],
    }  # fmt: skip
    trials = [
        {"seed": seed, "state": "done", "sampling": {"rows": [other | more], "left_out": []}}
        for seed, more in enumerate(({}, {"hits": 3.0, "by_length": [3.0, 4.0], "recordings": []}))
    ]
    score = Score("crps", lambda sums: sums[..., 0] / sums[..., 1], "recordings")
    (row,) = sampling_rows.over_seeds([{"label": "a", "trials": trials}], score)["rows"]
    assert (row["hits"], row["by_length"], row["crps"], row["seeds"]) == (2.0, [2.0, 3.0], 3.0, 2)
    assert row["hits_se"] == pytest.approx(1.0)  # s = sqrt 2, over sqrt 2
    assert "recordings" not in row


def test_blocks_of_a_kind_that_knows_no_context_have_none() -> None:
    trial = {"seed": 1, "state": "done", "blocks": [{"block_values": 64.0, "crps": 0.5}]}
    score = Score("crps", lambda sums: sums[..., 0], "recordings")
    (row,) = blocks.block_curve([{"label": "a", "trials": [trial]}], "value", score)
    assert (row["block_values"], row["crps"], row["seeds"]) == (64.0, 0.5, 1)
    assert "context_values" not in row
    words = KindWords("value", "crps").as_plain()
    grid = block_grid({"kind": {"words": words}, "blocks": [row]})
    assert grid is not None
    assert [*grid.rows[0]][:5] == ["a", "64", "-", "-", "1"]


def test_documents_are_in_no_results() -> None:
    trial = asked(3.0, 1)
    slim = without_groups(trial, "documents")
    assert "documents" not in str(slim)
    assert slim["sampling"]["rows"][0]["brier_lm"] == 3.0
    assert "documents" in trial["sampling"]["rows"][0]
    assert without_groups({"seed": 1}, "documents") == {"seed": 1}


def test_rows_of_an_older_form_are_not_taken_for_those_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those hold no documents, so a cell would be half of one form and half of the other."""
    monkeypatch.setattr(ask, "is_trained", lambda folder: True)
    wish = {"blocks": (64,)}
    study, trial = Mock(spec=Study), Mock(spec=Trial, key="a", label="a, seed 1")
    study.sampling, study.blocks = None, Blocks(wish["blocks"])
    planned, display = Mock(spec=StudyPlan), Mock(spec=Display)
    planned.study, planned.trials, planned.places = study, [trial], Mock(spec=Places)
    planned.places.trial = lambda key: tmp_path / key
    work = work_folder(tmp_path / "a")
    work.mkdir()
    older = digest(json.dumps(wish, sort_keys=True, default=str))[:12]
    (work / f"asked-{older}.json").write_text("{}")
    known, failed = ask.ask_trials(planned, None, display)
    assert (known, list(failed)) == ({}, ["a, seed 1"])
    ask._file(planned, planned.trials[0]).write_text('{"blocks": []}')
    assert ask.ask_trials(planned, None, display) == ({"a": {"blocks": []}}, {})
