"""The table by hand: order, columns, words."""

from __future__ import annotations

from typing import Any

import pytest

from calmkit.studies.table import (
    COLUMNS,
    as_text,
    ceiling,
    nats_per_token,
    ranked,
    references,
    standing,
    total_train_flops,
)


def cell(label: str, score: float, **evaluation: Any) -> dict[str, Any]:
    numbers = {
        "brier_lm": score, "brier_lm_low": score - 1, "brier_lm_high": score + 1, "brier_1": 0.125,
        "brier_2": 0.05, "brier_3": 0.01, "brier_4": -0.002, "tokens_per_second": 123.4,
        "draws_per_unit": 50.0,
        "network_calls_per_unit": 50.0, "unigram_brier_lm": 2.0, "bigram_brier_lm": 5.0,
    }  # fmt: skip
    facts = {
        "parameters": {"backbone": 1_000_000, "head": 500_000},
        "lm_train_flops": 3e12,
        "autoencoder_train_flops": 1e12,
        "lm_seconds": 61.6,
    }
    return {
        "label": label, "chunk_size": 4, "evaluation": numbers | evaluation, "facts": facts,
        "sample": f"by {label}\n",
    }  # fmt: skip


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "study": "s", "matched_by": "train_flops", "baseline": "b", "seconds": 125.4, "hardware": "a CPU",
        "commit": "abc", "cells": [cell("a", 3.0), cell("b", 4.5, bigram_brier_lm=6.0), cell("c", 0.0)],
    }  # fmt: skip


def test_a_row_by_hand() -> None:
    row = {column.head: column.text(cell("a", 3.0)) for column in COLUMNS}
    assert row == {
        "model": "a", "K": "4", "BrierLM": "3.00", "95 %": "2.00-4.00", "Brier-1": "12.50", "Brier-2": "5.00",
        "Brier-3": "1.00", "Brier-4": "-0.20", "nats/token": "-", "params": "1.50 M", "train TFLOPs": "4.00",
        "seconds": "62", "tokens/s": "123", "draws/unit": "50", "calls/unit": "50",
    }  # fmt: skip


def test_nats_per_token_say_whether_they_are_a_bound() -> None:
    assert nats_per_token(cell("a", 1.0, nll_per_token=1.23456)) == "1.235"
    assert nats_per_token(cell("a", 1.0, nll_bound_per_token=1.5, latent_nll=-3.0)) == "<=1.500"
    assert nats_per_token(cell("a", 1.0, latent_nll=-3.0)) == "-"


def test_an_adaptive_solver_has_no_number_of_calls() -> None:
    row = {c.head: c.text(cell("a", 1.0, network_calls_per_unit=None)) for c in COLUMNS}
    assert row["calls/unit"] == "adaptive"


def test_a_model_without_an_autoencoder_pays_for_none() -> None:
    one = cell("a", 1.0)
    assert total_train_flops(one) == 4e12
    del one["facts"]["autoencoder_train_flops"]
    assert total_train_flops(one) == 3e12


def test_the_best_comes_first(summary: dict[str, Any]) -> None:
    assert [c["label"] for c in ranked(summary)] == ["b", "a", "c"]


def test_references_are_those_of_the_baseline(summary: dict[str, Any]) -> None:
    assert references(summary) == [("unigram", 2.0), ("bigram", 6.0)]
    summary["baseline"] = "a cell that failed"
    assert references(summary) == [("unigram", 2.0), ("bigram", 5.0)]


@pytest.mark.parametrize(
    ("score", "words"),
    [(3.5, "above the unigram (2.00), below the bigram (5.00)"),
     (4.5, "above the unigram (2.00), level with"), (3.0, "level with the unigram (2.00)"),
     (0.5, "below the unigram (2.00)")],
)  # fmt: skip
def test_standing_goes_by_the_interval(score: float, words: str) -> None:
    """The interval is the score plus and minus 1."""
    assert standing(cell("a", score)).startswith(f"a ({score:.2f}): {words}")


def test_standing_against_the_untrained_self() -> None:
    one = cell("a", 3.0, untrained_brier_lm=1.9)
    assert standing(one).startswith("a (3.00): above its untrained self (1.90), ")


def test_the_text(summary: dict[str, Any]) -> None:
    summary["cells"][0]["evaluation"]["reconstruction_token_accuracy"] = 0.9912
    lines = as_text(summary).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["b", "a", "c"]
    assert len({len(line) for line in lines[1:5]}) == 1  # columns are aligned
    assert "Models that only count, BrierLM: unigram 2.00, bigram 6.00" in lines
    assert "Held-out tokens that the autoencoder gives back: 99.12 %" in lines
    assert lines[lines.index("--- a ---") + 1] == "by a"
    assert lines[-1] == "2 min 05 s on a CPU, commit abc"


CEILING = {
    "ceiling_brier_lm": 6.25, "ceiling_brier_1": 0.5, "ceiling_brier_2": 0.125, "ceiling_brier_3": 0.02,
    "ceiling_brier_4": 0.0122, "ceiling_nll_per_token": 0.75,
}  # fmt: skip


@pytest.mark.parametrize(
    ("score", "words"),
    [(3.0, "3.25 below the ceiling (6.25)"), (5.5, "level with the ceiling (6.25)"),
     (7.0, "level with the ceiling (6.25)"), (7.5, "above the ceiling (6.25)")],
)  # fmt: skip
def test_standing_against_the_ceiling(score: float, words: str) -> None:
    """The interval is the score plus and minus 1."""
    assert standing(cell("a", score, **CEILING)).endswith(", " + words)


def test_the_text_tells_the_ceiling_of_the_baseline(summary: dict[str, Any]) -> None:
    assert "ceiling" not in as_text(summary)
    assert ceiling(summary) == {}
    summary["cells"] = [cell("a", 3.0, ceiling_brier_lm=9.0), cell("b", 4.5, **CEILING)]
    assert ceiling(summary)["nll_per_token"] == 0.75
    assert (
        "The ceiling, what the true source scores on average: BrierLM 6.25 (Brier-1 50.00, Brier-2 12.50, "
        "Brier-3 2.00, Brier-4 1.22), 0.750 nats/token"
    ) in as_text(summary).splitlines()
