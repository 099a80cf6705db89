"""`calmkit plan` on the paper's recipes gives the paper's Table 1.

The numbers are those of Shao et al., 2025, Table 1 (https://arxiv.org/abs/2510.27688): parameters of stage 2
without the autoencoder, FLOPs of training with it, FLOPs per token written at a context of 2048 units.
"""

from __future__ import annotations

import pytest

from calmkit.recipe.load import load_recipe, shipped_recipes
from calmkit.recipe.plan import Plan, plan
from calmkit.registry import make_manager

TABLE_1 = {
    # name: (parameters, training FLOPs, inference FLOPs per token)
    "paper/transformer-s": (281e6, 6.6e20, 4.4e8),
    "paper/transformer-m": (465e6, 11.9e20, 7.9e8),
    "paper/transformer-l": (849e6, 22.5e20, 15.0e8),
    "paper/calm-m": (371e6, 3.7e20, 2.9e8),
    "paper/calm-l": (735e6, 7.7e20, 4.6e8),
    "paper/calm-xl": (1.82e9, 19.5e20, 9.4e8),
}
FIGURE_4 = {"paper/calm-l-k1": 30.3e20, "paper/calm-l-k2": 15.4e20, "paper/calm-l-k8": 4.2e20}
"""Training FLOPs, read off by eye."""


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    manager = make_manager(guests=[])
    names = [*TABLE_1, *FIGURE_4]
    return {name: plan(load_recipe(name, (), manager), manager) for name in names}


def test_all_of_the_papers_recipes_are_here(plans: dict[str, Plan]) -> None:
    """Those of text; those of images are in tests/test_paper_image_recipes.py."""
    papers = [name for name in shipped_recipes() if name.startswith("paper/")]
    assert set(plans) == {name for name in papers if load_recipe(name, (), make_manager(guests=[])).tokenizer}


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1(name: str, plans: dict[str, Plan]) -> None:
    parameters, training, inference = TABLE_1[name]
    assert plans[name].parameters == pytest.approx(parameters, rel=0.01)
    assert plans[name].train_flops == pytest.approx(training, rel=0.05)
    assert plans[name].inference_flops_per_element == pytest.approx(inference, rel=0.04)


@pytest.mark.parametrize("name", FIGURE_4)
def test_figure_4(name: str, plans: dict[str, Plan]) -> None:
    assert plans[name].train_flops == pytest.approx(FIGURE_4[name], rel=0.1)


def test_what_calm_m_saves_against_transformer_s(plans: dict[str, Plan]) -> None:
    """Section 7.2: 44 % of training, 34 % of inference."""
    ours, theirs = plans["paper/calm-m"], plans["paper/transformer-s"]
    assert ours.inference_flops_per_element is not None
    assert theirs.inference_flops_per_element is not None
    assert 1 - ours.train_flops / theirs.train_flops == pytest.approx(0.44, abs=0.03)
    per_token = ours.inference_flops_per_element / theirs.inference_flops_per_element
    assert 1 - per_token == pytest.approx(0.34, abs=0.03)


def test_tokens_of_both_stages(plans: dict[str, Plan]) -> None:
    """500e9 in steps of 2^21, and 30,000 steps of 2^19 for the autoencoder, whatever K."""
    for name, counted in plans.items():
        lm = counted.stages["lm"]
        assert (lm.elements_per_step, lm.steps) == (2**21, 238_419)
        assert lm.elements == pytest.approx(500e9, rel=1e-5)
        if "calm" in name:
            stage = counted.stages["autoencoder"]
            assert (stage.elements_per_step, stage.steps) == (2**19, 30_000)


def test_the_autoencoder_by_hand(plans: dict[str, Plan]) -> None:
    """Its share of training is 0.067e20 and its size about 75 M, of which 65.67 M are the embedding."""
    counted = plans["paper/calm-m"]
    first = counted.stages["autoencoder"]
    assert sum(first.train_flops.values()) == pytest.approx(0.067e20, rel=0.01)
    assert counted.parameters_by_part["autoencoder"] == pytest.approx(75.83e6, rel=0.001)


def test_calm_m_by_hand(plans: dict[str, Plan]) -> None:
    """Formula: products of weights, twice; attention 4 L d C; K tokens a unit. The head's condition once."""
    d, layers, ffn, k, latent, vocab, blocks, units = 1024, 16, 2752, 4, 128, 128_257, 4, 2048
    wide, inner = 512, 1280
    backbone = layers * (4 * d * d + 3 * d * ffn)
    embedder = 2 * k * d * d + 2 * d * d
    shared = d * d + blocks * d * d
    head = 64 * d + d * d + 6 * d * d * blocks + d * d + d * latent
    decoder = latent * wide + 3 * wide * inner + k * (wide**2 + 3 * wide * inner + vocab * wide)
    encoder = 2 * wide * latent + 3 * wide * inner + k * (wide**2 + 3 * wide * inner)
    counted = plans["paper/calm-m"]
    per_unit = 2 * (backbone + embedder + head + decoder) + 4 * layers * d * units
    assert counted.inference_flops_per_element == per_unit / k
    # In training the last unit is not read, and the score is 2 (2 S + 1) R D of products, without a backward.
    read = (units - 1) * (2 * backbone + 4 * layers * d * (units - 1))
    drawn = 2 * (shared + 8 * (head - shared))
    score = 2 * (2 * 8 + 1) * 100 * latent
    row = 3 * read + units * (3 * (2 * embedder + drawn) + score + 2 * encoder)
    lm = counted.stages["lm"]
    assert sum(lm.train_flops.values()) == row * lm.rows_per_step * lm.steps


def test_one_token_needs_no_mlp_to_read_it(plans: dict[str, Plan]) -> None:
    assert plans["paper/calm-l-k1"].inference["embedder"] == 0
    assert plans["paper/calm-l-k1"].parameters_by_part["embedder"] == 128_257 * 1536
