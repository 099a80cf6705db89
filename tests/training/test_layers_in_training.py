"""Layers of a backbone that are computed again, or compiled: the same model, the same names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import column, go_on, small_run, stopped, workshop
from torch import nn

from calmkit.interfaces import Batch
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.training.layers import backbone_layers, trained_layers
from calmkit.training.run import Run

TRANSFORMER = ("backbone=transformer", "backbone.depth=2", "backbone.heads=2")
SMALL = (*TRANSFORMER, "stages.autoencoder.max_steps=4", "stages.lm.max_steps=8", "stages.lm.eval_every=4")
SMALL += ("trainer.log_every=1", "evaluation.untrained=false")


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("layers")) as folder:
        yield folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> Run:
    return small_run(folder, "plain", *SMALL)


def made() -> CalmModel:
    manager = make_manager(guests=[])
    return assemble(load_recipe("tiny/energy", ["backbone.depth=2"], manager), manager, {"vocab_size": 257})


def bytes_kept(model: CalmModel, batch: Batch) -> int:
    """What the graph of a loss holds for its backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.loss(batch).per_unit.mean()
    return sum(kept.values())


def test_a_backbone_says_its_layers() -> None:
    model = made()
    assert backbone_layers(model) == list(model.backbone.layers)
    assert backbone_layers(model.autoencoder) == []


def test_layers_that_are_computed_again_keep_less_and_come_to_the_same() -> None:
    model, ids = made(), torch.randint(256, (2, 16, 4))
    batch = Batch(ids, torch.ones(2, 16, dtype=torch.bool))
    torch.manual_seed(0)
    model.loss(batch).per_unit.mean().backward()
    expected = [
        parameter.grad.clone() for parameter in model.backbone.parameters() if parameter.grad is not None
    ]
    before = bytes_kept(model, batch)
    model.zero_grad()
    with trained_layers(model, recompute=True, compiled=False):
        torch.manual_seed(0)
        model.loss(batch).per_unit.mean().backward()
        fewer = bytes_kept(model, batch)
    grads = [parameter.grad for parameter in model.backbone.parameters() if parameter.grad is not None]
    assert len(grads) == len(expected) > 0
    assert all(a.equal(b) for a, b in zip(grads, expected, strict=True))
    assert fewer < before
    assert all("forward" not in layer.__dict__ for layer in backbone_layers(model))


def test_a_run_that_computes_again_is_the_run_that_keeps(folder: Path, plain: Run) -> None:
    run = small_run(folder, "again", *SMALL, "trainer.activation_checkpointing=true")
    ours, theirs = load_file(run.weights), load_file(plain.weights)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert column(run, "lm/val/loss") == column(plain, "lm/val/loss")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the tracer's own
def test_a_compiled_run_trains_as_the_plain_one_and_is_read_without(
    folder: Path, plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs are torch's, the kernels stay those of before: a compiler is not at hand everywhere."""
    asked: list[object] = []
    compile_it = torch.compile

    def compiled(function: Any) -> Any:
        asked.append(function)
        return compile_it(function, backend="eager")

    monkeypatch.setattr(torch, "compile", compiled)
    stopped(small_run, "lm", 2, folder, "compiled", *SMALL, "trainer.compile=true")
    assert len(asked) == 2
    run = go_on(folder / "compiled")
    assert len(asked) == 4
    assert column(run, "lm/train/loss") == column(plain, "lm/train/loss")
    assert isinstance(run.load(device="cpu").model, nn.Module)
