"""What several processes take each, whether it fits a GPU, and for how long: all by hand."""

from __future__ import annotations

import pytest

from calmkit.recipe.load import load_recipe
from calmkit.recipe.plan import Plan, StagePlan
from calmkit.recipe.schema import Recipe
from calmkit.registry import make_manager
from calmkit.training.gpus import GIB, GPUS, Verdict, find_gpu, verdict
from calmkit.training.planned_memory import StageMemory
from calmkit.training.share_of_memory import of_each

STATES = {
    ("weights", "backbone"): 8 * GIB,
    ("gradients", "backbone"): 8 * GIB,
    ("moments", "backbone"): 16 * GIB,
}
ALONE = StageMemory(
    {
        "forward": STATES | {("activations", "backbone"): 40 * GIB},
        "backward": STATES | {("activations", "backbone"): 20 * GIB, ("working", ""): 4 * GIB},
        "optimiser": STATES | {("working", ""): 8 * GIB},
    },
    layer=GIB,
    layers=6 * GIB,
)


def test_ddp_holds_everything_and_the_buckets_of_its_gradients() -> None:
    assert of_each(ALONE, 1, "auto") is ALONE
    assert ALONE.peak == (32 + 40) * GIB
    assert of_each(ALONE, 4, "ddp").peak == (32 + 40 + 8) * GIB


def test_fsdp2_deals_out_the_states_and_gathers_two_layers_and_what_is_outside_of_them() -> None:
    each = of_each(ALONE, 4, "fsdp2")
    phases = {name: sum(live.values()) // GIB for name, live in each.phases.items()}
    # a quarter of 32; 8 - 6 outside the layers and 2 of them; in the backward pass their gradients too
    assert phases == {"forward": 8 + 40 + 4, "backward": 8 + 24 + 2 * 4, "optimiser": 8 + 2}
    assert each.during == "forward"


def judged(gpu: str, world: int, *words: str, share: float | None = None) -> Verdict:
    recipe: Recipe = load_recipe("tiny/energy", list(words), make_manager(guests=[]))
    steps = StagePlan(10, world, 16, 16, {"backbone": 3 * 10**18, "head": 10**18}, 0, 0, 0)
    plan = Plan("mine", "unit", {}, {"lm": steps}, {}, "direct", 1, None, 0, None)
    return verdict(find_gpu(gpu), plan, {"lm": ALONE}, recipe, "bf16-mixed", share)


def test_what_fits_and_how_long_it_takes() -> None:
    found = judged("h200", 2)
    assert found.fits
    assert found.needed["lm"] == 80 * GIB  # of 141 less a tenth
    assert found.largest["lm"] == ("activations", "backbone", 40 * GIB)
    assert found.cures["lm"] == []
    assert found.hours["lm"] * 3600 == pytest.approx(4e18 / (2 * 0.4 * 989.4e12))
    assert not found.measured
    # layers that are computed again: a forward pass more, a third of the backbone's
    again = judged("h200", 2, "trainer.activation_checkpointing=true", share=0.5)
    assert again.hours["lm"] * 3600 == pytest.approx(5e18 / (2 * 0.5 * 989.4e12))
    assert again.measured


def test_what_does_not_fit_is_told_with_what_would_help() -> None:
    found = judged("a100-80", 2)
    assert not found.fits  # 80 GiB of 72
    told = found.as_dict()["stages"]["lm"]
    assert told["largest"] == {"kind": "activations", "part": "backbone", "bytes": 40 * GIB}
    # 72 - 40 leaves 32 for activations, 2.5 a row of 16: 8 rows take 20
    assert found.cures["lm"] == [
        "trainer.activation_checkpointing=true keeps little of the backbone's 40 GiB",
        "stages.lm.batch_size=8 with trainer.accumulate=2 takes the same rows",
        "trainer.strategy=fsdp2 comes to 60 GiB",  # a half of 32, 40 and 4
    ]
    (only,) = judged("l4", 1, "trainer.activation_checkpointing=true", "stages.lm.batch_size=1").cures["lm"]
    assert only.startswith("weights and what goes with them are too large already")
    assert "16-mixed would do" in judged("v100-32", 1).warning


def test_a_device_that_nobody_knows_and_rates_that_are_dense() -> None:
    with pytest.raises(ValueError, match=r"'b1000'; h100, .*v100-32 would do"):
        find_gpu("b1000")
    assert find_gpu("H100") is GPUS["h100"]
    for gpu in GPUS.values():
        assert gpu.rate("bf16-mixed") > gpu.rate("32-true") > 1e13
        assert gpu.called in gpu.title
