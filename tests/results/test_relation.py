"""Correlations by hand, the points that count, and refusals with their place."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.recipe.tree import Keys, parse
from calmkit.registry import make_manager
from calmkit.results import relation as related
from calmkit.results.relation import Relate, pearson, resample, spearman
from calmkit.studies import relate
from calmkit.text.words import RELATE, WORDS

EXACT = Relate("nll_per_token", "brier_lm")
relation, relation_text, read_relate = (
    partial(one, words=RELATE) for one in (related.relation, related.relation_text, relate.read_relate)
)


def cell(label: str, pairs: list[tuple[float, float]], name: str = "nll_per_token") -> dict[str, Any]:
    """A cell whose points have these nats and BrierLM, the first of them untrained."""
    curve = [{"step": i, "flops": 1.0 * i, name: x, "brier_lm": y} for i, (x, y) in enumerate(pairs)]
    return {"label": label, "curve": curve}


def test_pearson_by_hand() -> None:
    """x = 1, 2, 3 and y = 1, 3, 2: deviations -1 0 1 and -1 1 0, so 1 / (sqrt 2 * sqrt 2)."""
    assert pearson(np.array([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])) == pytest.approx(0.5)
    assert pearson(np.array([[1.0, 5.0], [2.0, 3.0], [3.0, 1.0]])) == pytest.approx(-1)


def test_ties_share_their_mean_rank() -> None:
    """3 1 3 2 has the ranks 3.5 1 3.5 2, deviations 1 -1.5 1 -0.5 (squares 4.5); against 1 2 3 4, deviations
    -1.5 -0.5 0.5 1.5 (squares 5): the products sum to -1.5 + 0.75 + 0.5 - 0.75 = -1.
    """
    points = np.array([[3.0, 10.0], [1.0, 20.0], [3.0, 30.0], [2.0, 1000.0]])
    assert spearman(points) == pytest.approx(-1 / (4.5 * 5) ** 0.5)


def test_spearman_sees_order_alone() -> None:
    points = np.array([[1.0, -1.0], [2.0, -10.0], [3.0, -1000.0], [4.0, -1001.0]])
    assert spearman(points) == pytest.approx(-1)
    assert pearson(points) > -0.95
    assert spearman(points**3) == pytest.approx(spearman(points))


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 2)),
        np.ones((2, 2)),
        np.array([[0.1, y] for y in range(9)]),
        np.array([[y, 0.3] for y in range(9)]),
    ],
)
def test_too_few_or_constant_points_have_no_correlation(points: np.ndarray) -> None:
    assert np.isnan(pearson(points))
    assert np.isnan(spearman(points))


def test_what_rounding_leaves_of_a_constant_is_no_spread() -> None:
    """0.1 + 0.2 is not 0.3, by 4e-17."""
    assert np.isnan(pearson(np.array([[0.3, 1.0], [0.1 + 0.2, 2.0], [0.3, 3.0], [0.1 + 0.2, 4.0]])))


def test_points_of_all_cells_count_but_the_untrained_unknown_and_clamped() -> None:
    cells = [
        cell("a", [(9.0, 9.0), (3.0, 1.0), (2.0, 2.0), (1.0, 0.0)]),
        cell("b", [(9.0, 9.0), (1.0, 4.0), (1.5, 3.0)]),
        cell("c", [(9.0, 9.0), (1.0, 4.0)], name="nll_bound_per_token"),
    ]
    result = relation(cells, EXACT)
    assert [(one["label"], one["points"]) for one in result["series"]] == [
        ("a", [[3.0, 1.0], [2.0, 2.0]]), ("b", [[1.0, 4.0], [1.5, 3.0]]),
    ]  # fmt: skip
    assert result["left_out"] == {"untrained": 3, "unknown": 1, "zero": 1}
    assert result["points"] == 4
    assert result["spearman"] == pytest.approx(-1)
    # by hand: x 3 2 1 1.5 (mean 1.875), y 1 2 4 3 (mean 2.5): -3.25 / sqrt(2.1875 * 5)
    assert result["pearson"] == pytest.approx(-3.25 / (2.1875 * 5) ** 0.5)
    assert result["pearson_low"] <= result["pearson"] <= result["pearson_high"]
    assert result["by_cell"][0] == {"label": "a", "points": 2, "pearson": None, "spearman": None}
    assert result == relation(cells, EXACT)  # seeded


def test_points_that_are_cut_off_are_kept_to_be_looked_at() -> None:
    result = relation([cell("a", [(9.0, 9.0), (3.0, 1.0), (1.0, 0.0)]), cell("b", [(9, 9), (5, 0.0)])], EXACT)
    assert [one.get("cut_off") for one in result["series"]] == [[[1.0, 0.0]], [[5.0, 0.0]]]
    assert [one["label"] for one in result["by_cell"]] == ["a"]
    assert result["points"] == 1


def test_numbers_that_recipes_ask_for_can_be_related_where_they_are_taken_on_the_way() -> None:
    manager = make_manager([])
    given = ("evaluation.metrics=[latent_energy]", "evaluation.metrics=[]")
    asked = [load_recipe("tiny/energy", [one], manager) for one in given]
    known = relate.on_the_way(asked, manager)
    words = relate.relate_words(WORDS, known)
    study = root("relate: {x: latent_energy_relative, y: brier_lm}")
    assert relate.read_relate(study, words) == Relate("latent_energy_relative", "brier_lm")
    with pytest.raises(RecipeError, match="no measure of the points on the way: 'latent_energy_relative'"):
        read_relate(study)
    points = [cell("a", [(9, 9), (3, 1), (2, 2), (1, 4)], name="latent_energy_relative")]
    result = related.relation(points, Relate("latent_energy_relative", "brier_lm"), words)
    assert result["spearman"] == pytest.approx(-1)
    text = related.relation_text(result, RELATE)  # whoever shows it knows only the kind's own words
    assert text[0] == "BrierLM against energy score / R, 3 points on the way"


def test_either_takes_the_bound_where_nothing_exact_is_known() -> None:
    cells = [
        cell("a", [(9.0, 9.0), (3.0, 1.0), (2.0, 2.0)]),
        cell("c", [(9.0, 9.0), (1.0, 4.0)], name="nll_bound_per_token"),
    ]
    result = relation(cells, Relate("nats_per_token", "brier_lm"))
    assert [(one["label"], one["exact"]) for one in result["series"]] == [("a", True), ("c", False)]
    assert "paper" not in result  # its numbers are of exact likelihoods
    assert any("read the numbers cell by cell" in line for line in relation_text(result))
    alone = relation(cells[:1], Relate("nats_per_token", "brier_lm"))
    assert not any("cell by cell" in line for line in relation_text(alone))
    assert relation(cells, EXACT)["paper"] == {"pearson": -0.966, "spearman": -0.991}


def test_the_bootstrap_draws_cells_then_points() -> None:
    """Cells told apart by x: a replicate holds whole cells' worth of points, each from its own cell."""
    groups = [np.array([[0.0, i] for i in range(3)]), np.array([[1.0, i] for i in range(5)])]
    rng = np.random.default_rng(0)
    sizes = {len(resample(groups, rng)) for _ in range(100)}
    assert sizes == {6, 8, 10}  # a a, a b, b b


def test_nothing_known_is_said() -> None:
    result = relation([cell("a", [(1.0, 0.0)])], EXACT)
    assert result["pearson"] is None
    assert result["series"] == []
    assert any("not known" in line for line in relation_text(result))


def test_the_text_says_the_numbers_and_the_papers() -> None:
    text = "\n".join(relation_text(relation([cell("a", [(9, 9), (3, 1), (2, 2), (1.5, 4)])], EXACT)))
    assert "3 points on the way" in text
    assert "spearman -1.000 (-1.000 to -1.000); the paper, softmax models only: -0.991" in text
    assert "the points of its only cell" in text


def root(text: str) -> Keys:
    tree = parse(text, "s.yaml")
    assert isinstance(tree, Keys)
    return tree


def test_reading() -> None:
    assert read_relate(root("relate: {x: nll_per_token, y: brier_lm}")) == EXACT
    assert read_relate(root("name: s")) is None


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("relate: brier_lm", "CK132", "relate is a mapping"),
        ("relate: {x: nll_per_token, y: brier_lm, z: 1}", "CK130", "unknown key 'z'"),
        ("relate: {x: nll_per_tokn, y: brier_lm}", "CK133", "did you mean 'nll_per_token'"),
        ("relate: {x: nll_per_token}", "CK131", "relate needs the key 'y'"),
        ("relate: {x: nll_per_token, y: }", "CK131", "relate needs the key 'y'"),
        ("relate: {x: [step], y: brier_lm}", "CK132", "relate.x must be the name of a measure, got a list"),
        ("relate: {x: brier_lm, y: brier_lm}", "CK133", "relate sets 'brier_lm' against itself"),
    ],
)
def test_refusals(text: str, code: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read_relate(root(text))
    assert raised.value.problems[0].code == code
    assert told in str(raised.value)
    assert "s.yaml:1:" in str(raised.value)


def test_ends_of_runs_are_asked_for_by_any_number_and_pairs_by_what_the_grid_varies() -> None:
    known, varied = {"brier_lm": "BrierLM", "draw_nats": "draw nats"}, {"head", "model"}
    text = "relate: {x: draw_nats, y: brier_lm, of: ends, by: head}"
    assert read_relate(root(text), rankable=known, varied=varied) == Relate(
        "draw_nats", "brier_lm", True, "head"
    )
    for wrong, told in (
        ("relate: {x: draw_nats, y: brier_lm, of: end}", "relate.of says which points"),
        ("relate: {x: draw_nats, y: brier_lm}", "no measure of the points on the way: 'draw_nats'"),
        ("relate: {x: step, y: brier_lm, of: ends}", "no number that a run is measured by: 'step'"),
        ("relate: {x: step, y: brier_lm, by: head}", "write of: ends"),
        ("relate: {x: draw_nats, y: brier_lm, of: ends, by: hed}", "did you mean 'head'"),
    ):
        with pytest.raises(RecipeError, match=told):
            read_relate(root(wrong), rankable=known, varied=varied)
