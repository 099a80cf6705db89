"""What is counted for a row is what torch counts while that row is drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from calmkit.autoencoders.patches import Patches
from calmkit.backbones.any_order import AnyOrderTransformer
from calmkit.backbones.gru import GRUBackbone
from calmkit.conditioners.label import LabelConditioner
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import (
    Context,
    DensityHead,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    Order,
    Posterior,
    RowSampler,
    SampleOptions,
)
from calmkit.metrics.flops import count_flops, states_flops
from calmkit.metrics.measured_flops import comparable
from calmkit.metrics.row_calls import row_calls
from calmkit.model import CalmModel
from calmkit.orders.confidence import ConfidenceOrder
from calmkit.orders.random import RandomOrder
from calmkit.recipe.load import load_recipe
from calmkit.recipe.plan import plan
from calmkit.registry import make_manager
from calmkit.rows import draw_rows
from calmkit.samplers.beam import BeamSampler
from calmkit.samplers.rows import RowsSampler

H, D, L = 16, 4, 16


class Plain(DensityHead):
    """A guest that states nothing: one layer for the draw, two for the density."""

    info = HeadInfo(sampling="one_step")

    def __init__(self) -> None:
        super().__init__()
        self.out, self.more = nn.Linear(H, D), nn.Linear(H, D)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return -self.log_prob(context, target.mean)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return -(self.out(context.h) + self.more(context.h) - z).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        z = self.out(context.h)
        return z + torch.randn(num, *z.shape)


def head(name: str) -> GenerativeHead:
    event = EventSpec((D,))
    made: dict[str, Any] = {
        "plain": Plain,
        "mixture": lambda: MixtureHead(H, event, num_components=2, depth=1, limit_guidance=True),
        "energy": lambda: EnergyHead(H, event, depth=1),
        "diffusion": lambda: DiffusionHead(H, event, depth=2, width=256, num_steps=3),
    }
    return made[name]()


def built(head: GenerativeHead, order: Order | None) -> CalmModel:
    autoencoder = Patches((1, 8, 8), patch=2)
    backbone = (
        GRUBackbone(hidden_dim=H)
        if order is None
        else AnyOrderTransformer(autoencoder.layout, hidden_dim=H, depth=2, heads=2)
    )
    model = CalmModel(
        autoencoder,
        LatentsEmbedder(H, autoencoder.event),
        backbone,
        head,
        conditioner=LabelConditioner(H, 3),
        order=order,
    )
    for parameter in model.head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


def drawing(model: CalmModel, sampler: RowSampler) -> int:
    with comparable(), FlopCounterMode(display=False) as counter:
        draw_rows(model, sampler, 1, condition={"label": torch.tensor([1])})
    return counter.get_total_flops()


def counted(model: CalmModel, sampler: RowSampler) -> int:
    found = count_flops(model, L, rows=sampler).inference_per_unit
    assert found is not None
    return L * found


@pytest.mark.parametrize(
    ("name", "order", "guidance", "within"),
    [
        ("plain", ConfidenceOrder(), 1.0, 0.0),
        ("mixture", ConfidenceOrder(steps=5), 1.0, 0.0),
        ("mixture", ConfidenceOrder(steps=5), 1.5, 0.0),
        ("mixture", RandomOrder(steps=8), 1.5, 0.0),
        ("energy", RandomOrder(), 1.0, 0.0),
        ("energy", RandomOrder(), 1.5, 0.0),
        ("diffusion", RandomOrder(steps=3), 1.0, 0.15),  # the time is embedded once for all units of a step,
        ("diffusion", RandomOrder(steps=3), 1.5, 0.15),  # and counted for each
    ],
)
def test_a_row_in_any_order_costs_what_torch_counts(
    name: str, order: Order, guidance: float, within: float
) -> None:
    model, sampler = built(head(name), order), RowsSampler(guidance=guidance)
    seen, rounding = drawing(model, sampler), 4 * L  # each part rounds an L-th of a row up
    assert seen <= counted(model, sampler) <= (1 + within) * seen + rounding


@pytest.mark.parametrize(
    "sampler",
    [RowsSampler(), RowsSampler(guidance=1.5), BeamSampler(beams=3, fan=2), BeamSampler(beams=1, fan=4)],
)
def test_a_row_from_left_to_right_costs_what_torch_counts_guided_or_with_beams(sampler: RowSampler) -> None:
    """A unit is embedded for all but the last; with beams, no row stands beside the first."""
    model = built(head("mixture"), None)
    seen, one = drawing(model, sampler), 2 * D * H  # a unit embedded
    assert abs(counted(model, sampler) - seen) <= 6 * one + 4 * L


def test_what_the_confidence_order_draws_by_hand() -> None:
    """One unit kept per step of 16: 16 + 15 + ... + 1 = 136 draws, and as many densities, in 16 rows read."""
    model = built(head("mixture"), ConfidenceOrder())
    calls = row_calls(model, L)
    assert (calls.draws, calls.scored, calls.read, calls.embedded) == (136, 136, 16, 256)
    one = MixtureHead.draw_flops(model.head)  # type: ignore[arg-type]
    assert count_flops(model, L).inference["head"] == 136 * 2 * one // 16
    model.order = RandomOrder()
    assert count_flops(model, L).inference["head"] == one
    guided = row_calls(model, L, RowsSampler(guidance=2.0))
    assert (guided.draws, guided.terms, guided.read, guided.embedded) == (16, 2, 32, 256)
    model.head = head("energy")  # mixes the conditions: one run of its network
    assert row_calls(model, L, RowsSampler(guidance=2.0)).terms == 1
    beams = row_calls(built(head("mixture"), None), 4, BeamSampler(beams=3, fan=2))
    assert (beams.contexts, beams.draws, beams.scored) == (1 + 2 + 3 + 3, 18, 18)


def test_heads_that_know_their_density_say_what_it_costs() -> None:
    z, h = torch.randn(1, D), Context(torch.randn(1, H))
    mixture, local = MixtureHead(H, EventSpec((D,)), depth=1), LocalARHead(H, EventSpec((D,), 9), heads=2)
    for one, value in ((mixture, z), (local, torch.zeros(1, D, dtype=torch.long))):
        with comparable(), FlopCounterMode(display=False) as counter:
            one.log_prob(h, value)
        assert counter.get_total_flops() == one.density_flops()
        assert states_flops(one)
    assert not states_flops(Plain())


def test_a_plan_tells_what_guidance_and_beams_cost_on_the_line_of_the_sampler() -> None:
    manager = make_manager(guests=[])

    def of(recipe: str, *overrides: str) -> Any:
        return plan(load_recipe(recipe, overrides, manager), manager)

    masked = of("tiny/givt_masked", "sampler.guidance=1")
    assert masked.sampler_flops_per_element == masked.inference_flops_per_element
    steps = ConfidenceOrder(steps=load_recipe("tiny/givt_masked", (), manager).order.options.get("steps"))  # type: ignore[union-attr]
    assert masked.draws_per_unit == sum(step.drawn for step in steps.schedule(16)) / 16
    guided = of("tiny/givt_masked", "sampler.guidance=1.5")
    assert guided.sampler_flops_per_element > masked.sampler_flops_per_element
    assert guided.inference_flops_per_element == masked.inference_flops_per_element
    beams = of("tiny/givt_causal", "sampler=beam", "sampler.beams=2", "sampler.fan=4")
    assert beams.draws_per_unit == (1 + 15 * 2) * 4 / 16
