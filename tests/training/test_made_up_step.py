"""A made-up step is a step of training: Lightning's own loop holds as many bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader

from calmkit.interfaces import Batch
from calmkit.metrics.made_up import made_up_batch
from calmkit.recipe.assemble import assemble
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.text.scores import TextScores
from calmkit.training.ema import averaged
from calmkit.training.layers import trained_layers
from calmkit.training.measured_steps import allocations
from calmkit.training.planned_memory import plan_memory
from calmkit.training.progress import quiet_libraries
from calmkit.training.stages import ModelModule
from calmkit.training.trainer import make_trainer


@pytest.fixture(autouse=True)
def float32_as_users_have_it() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("words", [[], ["trainer.accumulate=2", "trainer.ema=0.9"]])
def test_lightning_s_loop_holds_what_is_planned(words: list[str]) -> None:
    """Within a hundredth: two gradients of the weights would be a tenth."""
    manager = make_manager(guests=[])
    more = [
        "stages.lm.batch_size=1",
        "backbone.depth=1",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        *words,
    ]
    recipe = load_recipe("tiny/softmax", more, manager)
    planned = plan_memory(recipe, manager, gpu=False, precision="32-true").stages["lm"]
    model = assemble(recipe, manager, {"vocab_size": 257})
    lived = sum(p.numel() * p.element_size() for p in model.parameters())
    assert recipe.stages.lm is not None
    module = ModelModule(model, TextScores(model, 2), recipe.stages.lm.optimizer, 3, seed=1)
    quiet_libraries()
    made = [made_up_batch(model.autoencoder, 1, 256, "cpu") for _ in range(6)]
    batches: DataLoader[Batch] = DataLoader(made, batch_size=None)  # type: ignore[arg-type]
    with averaged(recipe.trainer.ema, module) as callbacks:
        trainer = make_trainer(
            recipe,
            fits=True,
            max_steps=3,
            accumulate_grad_batches=recipe.trainer.accumulate,
            limit_val_batches=0,
            callbacks=list(callbacks),
        )
        with trained_layers(model, recompute=False, compiled=False), allocations() as changes:
            trainer.fit(module, batches, batches)
    most = now = 0
    for change in changes:
        now += change
        most = max(most, now)
    assert planned.peak == pytest.approx(lived + most, rel=0.01)
