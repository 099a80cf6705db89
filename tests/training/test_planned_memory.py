"""The planned memory of a step is that of a real one, counted by torch's profiler, and adds up by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.interfaces import Context, EventSpec, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.recipe.assemble import validate
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, Part, make_manager
from calmkit.training.measured_steps import measure_steps
from calmkit.training.planned_memory import GRADIENTS, PlannedMemory, StageMemory, plan_memory

GIB = 2**30
ROWS = ["stages.lm.batch_size=2", "trainer.accelerator=cpu"]
SMALL = ["stages.autoencoder.batch_size=2", *ROWS]
RECIPES = {
    "tiny/energy": [*SMALL, "trainer.precision=bf16-mixed", "backbone.depth=1", "head.depth=1"],
    "tiny/mar": [
        *SMALL,
        "trainer.precision=32-true",
        "order.least_hidden=1.0",  # so nothing is left to chance
        "backbone.depth=1",
        "backbone.decoder_depth=1",
        "head.depth=1",
    ],
    "tiny/softmax": [
        *ROWS,
        "trainer.precision=32-true",
        "trainer.accumulate=2",
        "trainer.activation_checkpointing=true",
    ],
}
CLOSE = 0.1  # of the measured peak; the promise is 0.25


@pytest.fixture(autouse=True)
def float32_as_users_have_it() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def manager() -> Manager:
    return make_manager(guests=[])


@cache
def as_planned(name: str) -> tuple[Recipe, PlannedMemory]:
    manager = make_manager(guests=[])
    recipe = load_recipe(name, RECIPES[name], manager)
    return recipe, plan_memory(recipe, manager, gpu=False, precision=recipe.trainer.precision)


def total(memory: StageMemory, kind: str, part: str) -> int:
    return memory.at_peak.get((kind, part), 0)


@pytest.mark.parametrize("name", RECIPES)
def test_the_planned_peak_is_that_of_a_real_step_on_the_cpu(name: str, manager: Manager) -> None:
    recipe, planned = as_planned(name)
    measured = measure_steps(recipe, manager, warm_up=0, timed=1)
    assert planned.unknown == {}
    assert set(planned.stages) == set(measured.stages)
    for stage, found in measured.stages.items():
        assert planned.stages[stage].peak == pytest.approx(found.peak, rel=CLOSE), stage


def test_weights_gradients_moments_and_average_by_hand(manager: Manager) -> None:
    recipe, planned = as_planned("tiny/mar")
    model = validate(recipe, manager)
    lm, first = planned.stages["lm"], planned.stages["autoencoder"]
    for part in ("embedder", "backbone", "head", "conditioner"):
        size = 4 * sum(p.numel() for p in getattr(model, part).parameters())
        held = [total(lm, kind, part) for kind in ("weights", "gradients", "average")]
        assert held == [size] * 3, part
        # beside the two moments AdamW counts the steps of each weight
        assert total(lm, "moments", part) - 2 * size == 4 * len([*getattr(model, part).parameters()])
    frozen = 4 * sum(p.numel() for p in model.autoencoder.parameters())
    assert [total(lm, kind, "autoencoder") for kind in ("weights", "gradients", "moments")] == [frozen, 0, 0]
    assert total(first, "weights", "autoencoder") == frozen
    assert {part for (kind, part), size in first.at_peak.items() if kind == "weights" and size} == {
        "autoencoder"
    }
    assert not any(kind == "average" for kind, _ in first.at_peak)  # of stage 2 alone
    assert lm.peak == sum(lm.at_peak.values()) == sum(lm.phases[lm.during].values())


SEEN = [
    ("paper/calm-m", "stages.autoencoder.init_from=.", 18.1),
    ("paper/transformer-s", "stages.autoencoder=null", 64.6),
]


@pytest.mark.parametrize(("name", "alone", "gib"), SEEN)
def test_by_the_rules_of_cuda_it_is_what_an_h100_was_seen_to_take(
    name: str, alone: str, gib: float, manager: Manager
) -> None:
    """As benchmarks/gpu.py measured it: bf16, eager, 32,768 tokens a step. It drops the gradients before the
    forward pass; training does behind it.
    """
    recipe = load_recipe(name, ["trainer.accumulate=1", alone], manager)
    lm = plan_memory(recipe, manager, gpu=True, precision="bf16-mixed").stages["lm"]
    kept = sum(size for (kind, _), size in lm.phases["forward"].items() if kind == GRADIENTS)
    dropped = max(sum(lm.phases["forward"].values()) - kept, sum(lm.phases["backward"].values()))
    assert dropped / GIB == pytest.approx(gib, rel=0.02)


def test_layers_that_are_computed_again_keep_less(manager: Manager) -> None:
    words = [*ROWS, "trainer.precision=32-true"]
    kept, again = (
        plan_memory(
            load_recipe("tiny/softmax", [*words, f"trainer.activation_checkpointing={on}"], manager),
            manager,
            gpu=True,
            precision="32-true",
        ).stages["lm"]
        for on in ("false", "true")
    )
    forward = ("activations", "backbone")
    assert again.phases["forward"][forward] < 0.5 * kept.phases["forward"][forward]


class AsksHead(GenerativeHead):
    """Looks at its numbers outside of torch."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.out = nn.Linear(hidden_dim, event.shape[0])

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return (self.out(context.h) - target.mean).square().sum(-1) * float(target.mean.numpy().sum())

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        raise NotImplementedError


def test_a_guest_that_needs_numbers_is_told_of_and_the_rest_is_planned() -> None:
    guests = make_manager(guests=[])
    guests.parts["heads"]["asks"] = Part("heads", "asks", AsksHead, "guests")
    recipe = load_recipe("tiny/energy", [*SMALL, "head=asks", "sampler=direct"], guests)
    planned: Any = plan_memory(recipe, guests, gpu=False, precision="32-true")
    assert set(planned.stages) == {"autoencoder"}
    assert set(planned.unknown) == {"lm"}
    assert "numpy" in planned.unknown["lm"]


def test_rows_that_no_memory_holds_are_planned_without_any() -> None:
    """Sixteen rows of a million million units: whatever is said of them, nothing of that size is made."""
    manager = make_manager(guests=[])
    recipe = load_recipe("tiny/energy", ["data.sequence_length=4000000000000"], manager)
    planned = plan_memory(recipe, manager, gpu=False, precision="32-true")
    assert "allocate" not in str(planned.unknown)
