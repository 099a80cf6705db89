"""Parts that do not learn, and parts that begin with another run's weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import TINY, differences, go_on, small_recipe, small_run, stopped, tensors, workshop

from calmkit.interfaces import PASSES
from calmkit.metrics.flops import count_flops
from calmkit.recipe.assemble import assemble, validate
from calmkit.recipe.dump import as_dict
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.plan import plan
from calmkit.recipe.schema import Recipe
from calmkit.registry import make_manager
from calmkit.studies.store import Keys
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run

MANAGER = make_manager([])
FEW = (*TINY, "evaluation.untrained=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("parts")) as folder:
        yield folder


@pytest.fixture(scope="module")
def source(folder: Path) -> Run:
    return small_run(folder, "source", *FEW, manager=MANAGER)


def of(part: str, run: Run) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors(run).items() if name.startswith(f"{part}.")}


def same(part: str, one: Run, other: Run) -> bool:
    mine, theirs = of(part, one), of(part, other)
    assert mine
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


def on(source: Run, *more: str) -> list[str]:
    return [
        *FEW,
        f"stages.autoencoder.init_from={source.folder}",
        f"stages.lm.init_from={source.folder}",
        *more,
    ]


def test_frozen_parts_keep_the_weights_of_the_run_they_were_taken_from_and_others_begin_fresh(
    folder: Path, source: Run
) -> None:
    lines: list[str] = []
    frozen = ["stages.lm.init_parts=[embedder, backbone]", "stages.lm.freeze=[embedder, backbone]"]
    given = on(source, *frozen, "trainer.ema=0.9", "seed=5")
    run = small_run(folder, "head", *given, manager=MANAGER, say=lines.append)
    assert f"stage 2 begins with embedder and backbone of {source.folder}" in lines
    assert same("embedder", run, source)
    assert same("backbone", run, source)
    assert not same("head", run, source)
    lock = run.lock
    assert lock["frozen"] == ["embedder", "backbone"]
    assert lock["taken"] == ["embedder", "backbone"]
    assert len(lock["runs"]["stages.lm.init_from"]) == 64


def test_a_stopped_run_with_frozen_parts_goes_on_as_if_nothing_had_been(folder: Path) -> None:
    frozen = [*FEW, "stages.lm.freeze=[head]", "trainer.ema=0.9"]
    whole = small_run(folder, "whole", *frozen, manager=MANAGER)
    stopped(small_run, "lm", 5, folder, "parts", *frozen, manager=MANAGER)
    names = read_names(folder / "parts")
    assert any(name.startswith("optimizer.backbone.") for name in names)
    assert not any(name.startswith(("optimizer.head.", "average.model.head.")) for name in names)
    assert differences(whole, go_on(folder / "parts", manager=MANAGER)) == []
    with pytest.raises(RunFailed, match=r"can't go on with another stages\.lm\.freeze"):
        go_on(folder / "parts", "stages.lm.freeze=[]", manager=MANAGER)


def read_names(run: Path) -> list[str]:
    from safetensors import safe_open

    path = max((run / "checkpoints" / "lm").glob("*.safetensors"))
    with safe_open(str(path), framework="pt") as file:
        return list(file.keys())


def test_frozen_parts_stay_in_eval_mode_and_let_gradients_through(folder: Path) -> None:
    recipe = small_recipe(folder, "stages.lm.freeze=[head]", manager=MANAGER)
    model = assemble(recipe, MANAGER, {"vocab_size": 257}).train()
    assert (model.head.training, model.backbone.training, model.embedder.training) == (False, True, True)
    context = model.context(torch.randint(256, (2, 4, 4)))
    torch.nn.init.normal_(model.head.get_parameter("network.out.weight"))
    model.head.loss(context, model.encode(torch.randint(256, (2, 4, 4)))).mean().backward()
    assert all(p.grad is None for p in model.head.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.embedder.parameters())


def test_a_frozen_part_costs_its_forward_pass_and_half_of_the_backward_pass_where_gradients_pass(
    folder: Path,
) -> None:
    """A GRU's step is three forward passes, so 2 of 3 frozen behind an embedder that learns, and 1 of 3
    behind one that does not. The energy head's score takes its gradient in the forward pass.
    """
    whole = plan(small_recipe(folder, manager=MANAGER), MANAGER).stages["lm"]

    def frozen(*parts: str) -> dict[str, float]:
        recipe = small_recipe(folder, f"stages.lm.freeze=[{','.join(parts)}]", manager=MANAGER)
        stage = plan(recipe, MANAGER).stages["lm"]
        return {part: flops / whole.train_flops[part] for part, flops in stage.train_flops.items() if flops}

    assert frozen("backbone")["backbone"] == pytest.approx(2 / PASSES)
    assert frozen("backbone", "embedder")["backbone"] == pytest.approx(1 / PASSES)
    assert frozen("backbone", "embedder")["head"] == 1
    head = assemble(small_recipe(folder, manager=MANAGER), MANAGER, {"vocab_size": 257}).head
    score = head.forward_flops(1) - head.draw_flops(4)  # type: ignore[operator]
    network = head.draw_flops(4)  # type: ignore[operator]
    assert frozen("head")["head"] == pytest.approx((2 * network + score) / (3 * network + score))
    assert frozen("head")["backbone"] == 1
    recipe = small_recipe(folder, "stages.lm.freeze=[backbone]", manager=MANAGER)
    stage = plan(recipe, MANAGER).stages["lm"]
    backbone = sum(p.numel() for p in validate(recipe, MANAGER).backbone.parameters())
    assert whole.gradients - stage.gradients == 4 * backbone
    assert stage.weights == whole.weights


def test_a_model_that_only_writes_counts_as_if_it_learned(folder: Path) -> None:
    model = assemble(small_recipe(folder, manager=MANAGER), MANAGER, {"vocab_size": 257})
    before = count_flops(model, 8).training
    assert count_flops(model.requires_grad_(False), 8).training == before


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["stages.lm.freeze=[hed]"], r"CK13\d.*stages.lm.freeze"),
        (["stages.lm.freeze=[conditioner]"], "names 'conditioner', and this recipe has none"),
        (["stages.lm.init_parts=[head]"], "stages.lm.init_from names none"),
        (["stages.lm.freeze=[head,backbone,embedder]"], "leaves nothing to learn"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(
    folder: Path, overrides: list[str], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        validate(small_recipe(folder, *overrides, manager=MANAGER), MANAGER)


def test_a_refusal_names_file_and_line(folder: Path) -> None:
    text = (folder / "small.yaml").read_text().replace("lm: {", "lm: {freeze: [head, backbone, embedder], ")
    (folder / "odd.yaml").write_text(text)
    from calmkit.recipe.load import load_recipe

    with pytest.raises(RecipeError, match=r"odd\.yaml:12:\d+"):
        validate(load_recipe(folder / "odd.yaml", (), MANAGER), MANAGER)


def test_a_part_of_another_shape_is_refused_by_part_and_tensor_before_stage_1(
    folder: Path, source: Run
) -> None:
    wide = [*FEW, f"stages.lm.init_from={source.folder}", "stages.lm.init_parts=[head]", "head.depth=2"]
    with pytest.raises(RunFailed, match=r"the head of .*source does not fit: its tensor network") as told:
        small_run(folder, "wide", *wide, manager=MANAGER)
    assert "Give the head the settings that it has there, or leave it out of stages.lm.init_parts" in str(
        told.value
    )
    assert not (folder / "wide").exists()


def test_parts_of_a_run_on_another_autoencoder_are_refused(folder: Path, source: Run) -> None:
    other = [*FEW, f"stages.lm.init_from={source.folder}", "stages.lm.init_parts=[backbone]", "seed=9"]
    with pytest.raises(RunFailed, match="rest on another autoencoder than this run's"):
        small_run(folder, "other", *other, manager=MANAGER)
    assert not (folder / "other").exists()  # stage 1 would have trained another one


def test_studies_find_what_was_trained_before_these_settings_came(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(folder, manager=MANAGER)
    plain = Keys(MANAGER).of_trial(recipe)
    assert Keys(MANAGER).of_trial(small_recipe(folder, "stages.lm.freeze=[head]", manager=MANAGER)) != plain

    def before(recipe: Recipe) -> dict[str, Any]:
        content = as_dict(recipe)
        del content["stages"]["lm"]["freeze"], content["stages"]["lm"]["init_parts"]
        return content

    monkeypatch.setattr("calmkit.studies.store.as_dict", before)
    assert Keys(MANAGER).of_trial(recipe) == plain
