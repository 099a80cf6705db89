"""The summary in words by hand, and that it never says more than the intervals allow."""

from __future__ import annotations

from typing import Any

from made_results import made_cell, made_results, rich_results, undone

from calmkit.report.words import in_words


def words(*cells: dict[str, Any], **more: Any) -> str:
    return "\n".join(in_words(made_results(cells, **more)))


def test_by_hand() -> None:
    cells = [made_cell("a", [3.0, 3.1]), made_cell("b", [7.0, 7.1]), made_cell("c", [3.0, 3.2])]
    assert in_words(made_results(cells)) == [
        "3 models, 2 seeds each. Each was trained for 11 TFLOPs, both stages together.",
        "b leads with BrierLM 7.05: it is ahead of every other model by both intervals.",
        "Settled against a by both intervals: better: b (+4.00).",
        "Not settled against a: c (+0.05).",
        "BrierLM was measured on held-out text: rows of 256 tokens, 126 tokens of context on average, 8,128 "
        "units evaluated in 96 documents.",
    ]


def test_no_lead_is_claimed_that_is_not_settled() -> None:
    told = words(made_cell("a", [3.0, 4.0]), made_cell("b", [3.5, 4.9]))
    assert "leads" not in told
    assert "Settled" not in told
    assert "b has the highest mean, BrierLM 4.20, but first place is open between it and a." in told
    assert "Not settled against a: b (+0.70)." in told


def test_one_seed_settles_nothing() -> None:
    told = words(made_cell("a", [3.0]), made_cell("b", [9.0]))
    assert "b has the highest mean, BrierLM 9.00." in told
    assert "Every model has one seed only" in told
    assert "leads" not in told
    assert "Settled" not in told


def test_one_cell_with_one_seed_is_named() -> None:
    told = words(made_cell("a", [3.0, 3.1]), made_cell("b", [9.0]))
    assert "b: there is one seed only" in told
    assert "1 to 2 seeds each" in told


def test_without_a_text_interval_no_second_interval_is_claimed() -> None:
    told = words(made_cell("a", [3.0, 3.1]), made_cell("b", [7.0, 7.1]), text=None)
    assert "both intervals" not in told
    assert "Settled against a by the intervals over seeds: better: b (+4.00)." in told
    assert "other text might say otherwise" in told


def test_less_can_be_better() -> None:
    cells = [made_cell("a", [3.0, 3.0], nll_per_token=1.5), made_cell("b", [2.0, 2.0], nll_per_token=1.25)]
    told = words(*cells, primary="nll_per_token", text=None)
    assert "b leads with nats/token 1.250" in told
    assert "better: b (-0.250)" in told


def test_what_is_worse_is_called_so() -> None:
    assert "worse: b (-4.00)" in words(made_cell("a", [7.0, 7.1]), made_cell("b", [3.0, 3.1]))


def test_what_is_left_out_is_said() -> None:
    cell = made_cell("b", [5.0, 5.1], [undone(3, "short", "x"), undone(4, "failed", "y")])
    assert "Left out of every mean: b, seed 3 (it missed its budget); b, seed 4 (failed)." in words(
        made_cell("a", [3.0, 3.1]), cell
    )


def test_unequal_cost_is_said_with_numbers() -> None:
    """3 TFLOPs of the autoencoder on top: 11 and 7, more than 2 % apart."""
    cells = [made_cell("a", [3.0, 3.1]), made_cell("b", [3.0, 3.1], flops=4e12)]
    told = words(*cells, match=None)
    assert "no comparison at equal cost: training took from 7 TFLOPs (b) to 11 TFLOPs (a)" in told
    told = words(*cells, match={"by": "steps", "value": 400, "unit": "steps"})
    assert "by the steps of its own recipe; this is no comparison at equal cost" in told
    told = words(*cells, match={"by": "parameters", "value": 1.5e6, "unit": "parameters"})
    assert "Each has about 1.5 M parameters. This is no comparison at equal cost" in told


def test_costs_within_two_percent_are_equal() -> None:
    cells = [made_cell("a", [3.0]), made_cell("b", [3.0], flops=7.8e12)]  # 11 and 10.8
    assert "training cost the same, 11 TFLOPs each" in words(*cells, match=None)
    cells = [made_cell("a", [3.0]), made_cell("b", [3.0], flops=7.77e12)]  # 11 and 10.77
    assert "no comparison at equal cost" in words(*cells, match=None)


def test_warnings_come_first() -> None:
    found = in_words(made_results([made_cell("a", [3.0])], warnings=["Mind this."], remarks=["And that."]))
    assert (found[0], found[-1]) == ("Mind this.", "And that.")


def test_other_chunks_are_scored_elsewhere() -> None:
    told = "Models of different K are scored where their own chunks begin."
    assert told in words(made_cell("a", [3.0]), made_cell("b", [3.0], chunk_size=1))
    assert told not in words(made_cell("a", [3.0]), made_cell("b", [3.0]))


def test_nothing_done() -> None:
    assert words(made_cell("a", [], [undone(1, "failed", "x")])).startswith("No trial is done yet.")


def test_a_rich_study_takes_few_sentences() -> None:
    assert 3 <= len(in_words(rich_results())) <= 9


def test_held_out_text_that_was_trained_on_is_said():
    leaky = made_cell("a", [3.0, 3.1], leaked_documents=0.25)
    clean = made_cell("b", [3.0, 3.1], leaked_documents=0.0)
    told = "Of the held-out documents, {} % also stand in the training text"
    assert told.format("25") in words(leaky)
    assert told.format("up to 25") in words(leaky, clean)
    assert "held-out documents" not in words(clean, made_cell("old", [3.0, 3.1]))
