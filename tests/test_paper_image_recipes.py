"""`calmkit plan` on the published image systems counts the published parameters, with no image at hand.

MAR-B, 208 M: Li et al., 2024, README of LTH14/mar (https://arxiv.org/abs/2406.11838). LatentLM-L, 479 M: Sun
et al., 2024, Table 1 (https://arxiv.org/abs/2412.08635). EAR-B and GIVT-Causal are published by their sizes;
their official layers are counted here by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from calmkit.recipe.assemble import validate
from calmkit.recipe.load import load_recipe, shipped_recipes
from calmkit.recipe.plan import Plan, plan
from calmkit.registry import make_manager

NAMES = ("paper/mar-b", "paper/ear-b", "paper/givt-causal-256", "paper/givt-masked-256", "paper/latentlm-l")
LATENTS, DIM, LABELS = 256, 16, 1000


def vit_layer(width: int) -> int:
    """Attention, an MLP of four times the width, two norms, all with biases."""
    return 4 * (width**2 + width) + 2 * 4 * width**2 + 5 * width + 2 * 2 * width


def ear_b() -> int:
    """models/ear.py and models/scoreloss.py of shaochenze/EAR: 24 layers of 768, 6 blocks of 1024."""
    h, w, buffer, noise = 768, 1024, 64, 64
    backbone = 24 * vit_layer(h) + (LATENTS + buffer) * h + h + 2 * h
    block = 2 * (w**2 + w) + 3 * (w**2 + w) + 2 * w
    final = 2 * (w**2 + w) + w * DIM + DIM
    head = noise * w + w + h * w + w + 6 * block + final
    return backbone + DIM * h + h + (LABELS + 1) * h + head


def givt() -> int:
    """Causal and masked alike: 24 layers of 1024 with MLPs of 4096, tables, 16 mixtures of 16 dimensions."""
    h = 1024
    layers = 24 * (4 * h**2 + 2 * h * 4096)
    return layers + (LABELS + 1 + LATENTS) * h + DIM * h + h * 16 * (1 + 2 * DIM)


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    manager = make_manager(guests=[])
    return {name: plan(load_recipe(name, (), manager), manager) for name in NAMES}


def test_all_of_the_image_papers_recipes_are_here() -> None:
    manager = make_manager(guests=[])
    papers = [name for name in shipped_recipes() if name.startswith("paper/")]
    assert set(NAMES) == {name for name in papers if load_recipe(name, (), manager).tokenizer is None}


@pytest.mark.parametrize(
    ("name", "published", "within"),
    [
        ("paper/mar-b", 208e6, 0.0025),
        ("paper/latentlm-l", 479e6, 0.01),
        ("paper/ear-b", ear_b(), 0.03),  # blocks of 6 W^2 weights instead of 5 W^2
        ("paper/givt-causal-256", givt(), 0.03),  # a block before the projection, gates in the MLPs
        ("paper/givt-masked-256", givt(), 0.03),  # a block before the projection, biases
    ],
)
def test_published_parameters(plans: dict[str, Plan], name: str, published: float, within: float) -> None:
    assert plans[name].parameters == pytest.approx(published, rel=within)


def test_what_differs_from_ear_b_is_the_head(plans: dict[str, Plan]) -> None:
    """All but the head is EAR-B's, but for a position behind the decoder and the label's own, (L + 1) H."""
    counted, h, w = plans["paper/ear-b"], 768, 1024
    head = 64 * w + w + h * w + w + 6 * (5 * (w**2 + w) + 2 * w) + 2 * (w**2 + w) + w * DIM + DIM
    rest = counted.parameters - counted.parameters_by_part["head"]
    assert rest - (ear_b() - head) == LATENTS * h + h


def test_the_autoencoder_is_kl_16(plans: dict[str, Plan]) -> None:
    """A quarter of a thousand units of 16 numbers, by 69.6 M parameters; see tests/nn/test_conv_coder.py."""
    for name in NAMES[:4]:
        assert plans[name].parameters_by_part["autoencoder"] == pytest.approx(69.6e6, rel=0.001)


def test_steps_are_the_epochs_of_imagenet(plans: dict[str, Plan]) -> None:
    images = 1_281_167
    for name, epochs, rows in (
        ("mar-b", 800, 2048),
        ("ear-b", 750, 2048),
        ("givt-causal-256", 500, 8192),
        ("givt-masked-256", 500, 8192),
    ):
        stage = plans[f"paper/{name}"].stages["lm"]
        assert stage.rows_per_step == rows
        assert stage.steps == round(epochs * images / rows)


def test_they_hold_together_where_the_images_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manager = make_manager(guests=[])
    for name in NAMES:
        validate(load_recipe(name, ("data.path=nowhere",), manager), manager, elsewhere=True)
