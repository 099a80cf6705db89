"""What a choice costs: every call of the head, every value decoded; by hand, and as a plan tells it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calmkit.generation import UnitDraws
from calmkit.interfaces import Context, GenerativeHead, HeadInfo, Posterior, SampleOptions, Sampler
from calmkit.metrics.choice_flops import ChoiceFlops
from calmkit.metrics.flops import count_flops, flops_of_decoding
from calmkit.metrics.made_up import MadeUpInput
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble
from calmkit.recipe.load import load_recipe
from calmkit.recipe.plan import plan
from calmkit.registry import make_manager
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.sharpen import SharpenSampler
from calmkit.samplers.vote import VoteSampler

MANAGER = make_manager(guests=[])
ROWS = 3


def model(head: str) -> CalmModel:
    overrides = [f"head={head}", "backbone.hidden_dim=16", "autoencoder.hidden_dim=16"]
    return assemble(load_recipe("tiny/k2", overrides, MANAGER), MANAGER, {"vocab_size": 257}).eval()


def cost(of: CalmModel, sampler: Sampler) -> float:
    """FLOPs per row of one choice."""
    draws = UnitDraws(of, Context(torch.randn(ROWS, 16)), sampler.options)
    with torch.no_grad():
        sampler.choose(draws, torch.arange(ROWS))
    found = ChoiceFlops(of, sampler.options).of(draws)
    assert found is not None
    return found / ROWS


@pytest.mark.parametrize("head", ["mixture", "strata"])
def test_sharpening_costs_its_calls_and_the_values_that_it_decodes(head: str) -> None:
    of = model(head)
    decode = flops_of_decoding(of.autoencoder, MadeUpInput.of(of, 2))
    values = {"mixture": 16, "strata": 32}[head]
    once = of.head.weighted_flops()
    assert cost(of, SharpenSampler()) == once + values * decode
    assert cost(of, SharpenSampler(draws_per_weight=3)) == 3 * (once + values * decode)
    assert cost(of, SharpenSampler(merge=False)) == once + decode
    assert cost(of, VoteSampler(candidates=50)) == of.head.draw_flops(50) + 50 * decode


class Silent(GenerativeHead):
    """States nothing: one product for the condition, and one for each draw."""

    info = HeadInfo(sampling="one_step")

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.each = torch.nn.Linear(16, 5, bias=False), torch.nn.Linear(5, 16, bias=False)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        hidden = self.shared(context.h)
        return self.each(hidden + torch.randn(num, *hidden.shape))


def test_a_head_that_states_nothing_is_measured_and_what_its_draws_share_counts_once() -> None:
    of = model("energy")
    of.head = Silent()
    decode = flops_of_decoding(of.autoencoder, MadeUpInput.of(of, 2))
    assert cost(of, VoteSampler(candidates=50)) == 2 * 16 * 5 + 50 * (2 * 5 * 16 + decode)
    assert cost(of, DirectSampler()) == 2 * 16 * 5 + 2 * 5 * 16 + decode


@pytest.mark.parametrize(
    ("head", "setting"),
    [("mixture", "merge=true"), ("strata", "merge=false"), ("strata", "draws_per_weight=2")],
)
def test_a_plan_tells_the_same_without_a_weight_built(head: str, setting: str) -> None:
    recipe = load_recipe("tiny/k2", [f"head={head}", "sampler=sharpen", f"sampler.{setting}"], MANAGER)
    planned = plan(recipe, MANAGER)
    built = assemble(recipe, MANAGER, {"vocab_size": 257})
    name, value = setting.split("=")
    sampler = SharpenSampler(**{name: {"true": True, "false": False}.get(value, 2)})  # type: ignore[arg-type]
    draws = UnitDraws(built, Context(torch.randn(1, 96)), sampler.options)
    with torch.no_grad():
        choice = sampler.choose(draws, torch.arange(1))
    read = count_flops(built, 128).inference
    chosen = ChoiceFlops(built).of(draws)
    assert chosen is not None
    whole = chosen + (read["embedder"] or 0) + (read["backbone"] or 0)
    assert planned.draws_per_unit == choice.draws.item()
    assert planned.sampler_flops_per_element == whole / 2


def test_a_source_whose_head_knows_no_weights_says_so() -> None:
    with pytest.raises(TypeError, match=r"EnergyHead is no WeightedHead, .* such as vote, would do"):
        cost(model("energy"), SharpenSampler())
