"""Every shipped recipe loads, holds together, survives its dump; tiny ones take a step and draw something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from calmkit.decoding import past_of
from calmkit.interfaces import Batch, RowSampler
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble, build_sampler, validate
from calmkit.recipe.load import load_recipe, shipped_files, shipped_recipes, to_yaml
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.rows import draw_rows

NAMES = sorted(shipped_recipes())
TINY = [name for name in NAMES if name.startswith("tiny/")]
IMAGES = ["tiny/ear", "tiny/givt_causal", "tiny/givt_masked", "tiny/latentlm", "tiny/mar", "tiny/pixels"]
TEXT = [name for name in TINY if name not in IMAGES]
LABELS = {"label": torch.tensor([0, 9])}


@pytest.fixture(scope="module")
def manager() -> Manager:
    return make_manager(guests=[])


def small_model(recipe: Recipe, manager: Manager) -> CalmModel:
    if recipe.tokenizer is not None:
        return assemble(recipe, manager, {"vocab_size": 257})
    model = assemble(recipe, manager, kind_of(recipe, manager).known_sizes(recipe, manager))
    if model.transform is not None:
        model.transform.fit([model.autoencoder.encode(a_batch(model).data).mean])
    return model


def a_batch(model: CalmModel) -> Batch:
    """Two rows: of digits with labels, or of six chunks of bytes."""
    if model.layout is not None:
        images, valid = torch.rand(2, 1, 8, 8) * 2 - 1, torch.ones(2, 16, dtype=torch.bool)
        return Batch(images, valid, condition=LABELS)
    chunks = torch.randint(0, 256, (2, 6, model.autoencoder.chunk_size))
    return Batch(chunks, torch.ones(2, 6, dtype=torch.bool))


@pytest.mark.parametrize("name", NAMES)
def test_holds_together_and_survives_its_dump(name: str, manager: Manager, tmp_path: Path) -> None:
    recipe = load_recipe(name, (), manager)
    assert recipe.name == name
    assert recipe.description
    assert recipe.source_text.splitlines()[0].split()[:4] == ["#", "calmkit", "train", name]
    validate(recipe, manager, elsewhere=True)  # one that asks another run names none
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml", (), manager) == recipe


@pytest.mark.parametrize("name", sorted(shipped_files()))
def test_a_header_says_command_result_hardware_and_date(name: str) -> None:
    """Or that nothing was measured, and then neither a machine nor a date."""
    lines = shipped_files()[name].read_text(encoding="utf-8").splitlines()
    header = lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]
    command = f"study run {name.removeprefix('studies/')}" if name.startswith("studies/") else f"train {name}"
    assert re.match(rf"# calmkit {command}( |$)", header[0])
    told = [line for line in header if re.match("# (Result: |Answer[:,])", line)]
    measured = [line for line in header if line.startswith("# Measured: ")]
    assert len(told) == 1
    if told[0].startswith("# Result: not measured"):
        assert measured == []
    else:
        assert len(measured) == 1
        assert re.match(r"# Measured: \w.*, 20\d\d-\d\d-\d\d\b", measured[0])


@pytest.mark.parametrize("name", TINY)
def test_one_step_lowers_the_loss_of_its_batch(name: str, manager: Manager) -> None:
    recipe = load_recipe(name, (), manager)
    model = small_model(recipe, manager)
    batch = a_batch(model)

    def loss() -> torch.Tensor:
        torch.manual_seed(1)  # the same noise before and after the step
        per_unit = model.loss(batch).per_unit
        assert per_unit.shape == (12,) or model.layout is not None  # of images those that are hidden
        return per_unit.mean()

    before = loss()
    before.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        slope = sum(p.grad.square().sum() for p in trained if p.grad is not None)
        # Double precision, and a step so small that curvature is nothing beside the slope. More than the
        # slope promises is right too: draws of the energy head coincide at first, and parting them pays.
        step = 1e-6 / float(slope) ** 0.5
        for p in trained:
            if p.grad is not None:
                p -= step * p.grad
    assert float(before.detach() - loss().detach()) > 0.5 * step * float(slope)


@pytest.mark.parametrize("name", IMAGES)
def test_two_images_are_drawn(name: str, manager: Manager) -> None:
    recipe = load_recipe(name, (), manager)
    model, sampler = small_model(recipe, manager).eval(), build_sampler(recipe, manager)
    assert isinstance(sampler, RowSampler)
    images = draw_rows(model, sampler, 2, condition=LABELS, seed=1).data
    assert images.shape == (2, 1, 8, 8)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("name", TEXT)
def test_one_chunk_is_drawn(name: str, manager: Manager) -> None:
    recipe = load_recipe(name, (), manager)
    model = small_model(recipe, manager).eval()
    sampler = build_sampler(recipe, manager)
    context, _ = model.backbone.start(2, 1)
    nothing = torch.zeros(2, 0, model.autoencoder.chunk_size, dtype=torch.long)
    context = context.behind(past_of(model.autoencoder, nothing, torch.zeros(2, 0, dtype=torch.bool)))

    def draw(num: int, rows: torch.Tensor) -> torch.Tensor:
        return model.draw(context[rows][:, 0], num, sampler.options)[0]

    with torch.no_grad():
        choice = sampler.choose(draw, torch.arange(2))
    assert choice.data.shape == (2, model.autoencoder.chunk_size)
    assert ((choice.data >= 0) & (choice.data < 257)).all()


def test_the_tiny_recipes_show_one_part_each() -> None:
    """One per head, per latent, and the baselines: a new built-in head or latent comes with its recipe."""
    manager = make_manager(guests=[])
    recipes = [load_recipe(name, (), manager) for name in TINY]
    assert {recipe.head.name for recipe in recipes} == set(manager.parts["heads"])
    assert {recipe.autoencoder.name for recipe in recipes} == set(manager.parts["autoencoders"])
    assert {recipe.backbone.name for recipe in recipes} == set(manager.parts["backbones"])
    assert {recipe.embedder.name for recipe in recipes} == set(manager.parts["embedders"])
    orders = {recipe.order.name for recipe in recipes if recipe.order is not None}
    assert orders | {"left_to_right"} == set(manager.parts["orders"])  # which is meant where none is named
