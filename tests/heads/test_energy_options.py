"""What the energy head offers beside the official one: codes, modulation, other scores, a schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from laws import six_sigma
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.heads.draw_likelihood import draw_log_prob
from calmkit.heads.energy import EnergyHead
from calmkit.heads.energy_score import energy_loss, gaussian_energy_loss
from calmkit.heads.energy_settings import EnergySchedule
from calmkit.heads.marginal_score import marginal_loss
from calmkit.heads.modulated_mlp import ModulatedMLP, network_with
from calmkit.heads.noise_mlp import NoiseMLP
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions, ScheduledHead

NAMES = (
    "noise_in noise_norm condition_in condition_norm blocks.0.norm blocks.0.join blocks.0.middle "
    "blocks.0.gate_up blocks.0.down out_norm out_hidden out"
)


def make_head(**options: Any) -> EnergyHead:
    """Small, with a last layer that is not 0, so that draws differ."""
    small = {"depth": 1, "width": 8, "noise_dim": 5, "num_draws": 4, "num_targets": 10, "init_std": 1.0}
    return EnergyHead(6, EventSpec((3,)), **(small | options))


def example(units: int = 4) -> tuple[Context, Posterior]:
    return Context(torch.randn(units, 6)), Posterior(torch.randn(units, 3), 0.5 * torch.randn(units, 3))


def seeded_loss(head: EnergyHead, context: Context, target: Posterior, fraction: float = 1.0) -> Tensor:
    head.at_progress(fraction)
    torch.manual_seed(5)
    return head.loss(context, target)


def pieces(head: EnergyHead, context: Context, target: Posterior) -> tuple[Tensor, Tensor, Tensor]:
    """Draws, the noise of the targets and a draw of the posterior, as one seed gives them to `loss`."""
    torch.manual_seed(5)
    draws = head.network.draw(context.h, head.num_draws)
    return draws, torch.randn(head.num_targets, 3), target.sample(1)[0]


def test_at_its_defaults_it_has_the_layers_of_the_official_head_and_no_more() -> None:
    """And one seed starts them the same with codes; the stream of random numbers is as it was."""
    torch.manual_seed(1)
    usual = make_head()
    expected = [f"network.{name}.{kind}" for name in NAMES.split() for kind in ("weight", "bias")]
    assert list(usual.state_dict()) == expected
    torch.manual_seed(1)
    coded = make_head(num_codes=4, init_std=0.0).state_dict()
    assert list(coded) == [*expected, "network.codes.weight"]
    rest = [name for name in expected if not name.startswith("network.out.")]
    assert all(torch.equal(usual.state_dict()[name], coded[name]) for name in rest)


def test_the_loss_at_its_defaults_is_the_published_one_bit_for_bit() -> None:
    head, (context, target) = make_head(), example()
    torch.manual_seed(5)
    noise = torch.rand(4, 4, 5) - 0.5
    draws, targets = head.network(noise, context.h), torch.randn(10, 3)
    assert target.log_std is not None
    expected = gaussian_energy_loss(draws, target.mean, target.log_std, targets)
    assert torch.equal(seeded_loss(head, context, target), expected)
    assert torch.equal(seeded_loss(head, context, target, 0.0), expected)  # and nothing moves
    assert head.log_scale is None


def test_each_draw_takes_one_of_the_codes_by_a_fair_die_of_its_own() -> None:
    """3 codes, 20,000 pairs of draws of a unit: each of 9 pairs of codes 1/9 of the times, within 6 standard
    deviations (false alarm 2e-8), which dies that know each other would miss.
    """
    head = make_head(num_codes=3)
    seen: list[Tensor] = []
    head.network.codes.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        head.sample(Context(torch.randn(20_000, 6)), 2)
    shares = torch.bincount(3 * seen[0][0] + seen[0][1], minlength=9) / 20_000
    allowed = 6 * (1 / 9 * 8 / 9 / 20_000) ** 0.5
    assert (shares - 1 / 9).abs().max().item() < allowed


def test_codes_are_added_behind_the_norm_of_the_noise_and_a_temperature_leaves_them() -> None:
    """With hardly any noise the draws of a unit are at most as many as the codes, and here they are all."""
    head, context = make_head(num_codes=3), Context(torch.randn(2, 6))
    draws = head.sample(context, 200, SampleOptions(temperature=1e-13))
    for unit in range(2):
        assert len(draws[:, unit].mul(1e6).round().unique(dim=0)) == 3
    network, noise, code = head.network, torch.randn(5, 2, 5), torch.randint(3, (5, 2))
    assert isinstance(network, NoiseMLP)
    network.codes.weight.data[1] = 0  # as if there was none
    plain, coded = network(noise, context.h), network(noise, context.h, code)
    assert torch.equal((plain == coded).all(-1), code == 1)


@pytest.mark.parametrize("options", [{"num_codes": 3}, {"noise": "modulation", "num_codes": 3}])
def test_the_score_of_draws_with_codes_is_unbiased_in_their_number(options: dict[str, Any]) -> None:
    """2 and 7 draws of one law have the same expected loss: their means over 3,000 units, each with noise of
    its own, differ by less than the six-sigma bounds of both (false alarm 2e-8).
    """
    context, target = Context(torch.ones(3000, 6)), Posterior(torch.ones(3000, 3))
    torch.manual_seed(0)
    head = make_head(**options)
    losses = []
    for num_draws in (2, 7):
        head.num_draws = num_draws
        with torch.no_grad():
            losses.append(head.loss(context, target))
    few, many = losses
    assert abs(few.mean().item() - many.mean().item()) < six_sigma(few) + six_sigma(many)
    assert six_sigma(few) < 0.3 * few.mean().item()


def test_a_modulated_network_is_what_it_says() -> None:
    """The stream starts from the condition; behind each norm x (1 + scale) + shift, of silu(noise)."""
    network = ModulatedMLP(5, 6, 3, 8, 2)
    nn.init.normal_(network.out.weight)
    noise, h = torch.randn(4, 7, 5), torch.randn(7, 6)
    y = F.silu(network.noise_norm(network.noise_in(noise)))
    x = network.condition_norm(network.condition_in(h)).expand(4, 7, 8)
    for block in network.blocks:
        shift, scale = block.modulation(y).chunk(2, -1)
        u = F.silu(block.middle(F.silu(block.join(block.norm(x) * (1 + scale) + shift))))
        gate, up = block.gate_up(u).chunk(2, -1)
        x = x + block.down(F.silu(gate) * up)
    shift, scale = network.out_modulation(y).chunk(2, -1)
    expected = network.out(F.silu(network.out_hidden(network.out_norm(x) * (1 + scale) + shift)))
    torch.testing.assert_close(network(noise, h), expected)


def test_a_modulated_head_has_noise_through_its_modulation_alone() -> None:
    """Without it all draws of a unit are one; with it a fresh head's differ, if its last layer isn't 0."""
    head, context = make_head(noise="modulation"), Context(torch.randn(4, 6))
    read: list[int] = []
    head.network.condition_in.register_forward_hook(lambda _, inputs, __: read.append(len(inputs[0])))
    draws = head.sample(context, 5)
    assert read == [4]  # once for all draws
    assert draws.std(0).min() > 1e-3
    for name, layer in head.network.named_modules():
        if name.endswith("modulation"):
            nn.init.zeros_(layer.weight)
    same = head.sample(context, 5)
    torch.testing.assert_close(same, same[:1].expand(5, 4, 3))


@pytest.mark.parametrize("point", [True, False])
@pytest.mark.parametrize(
    "options", [{"offset": 0.7}, {"marginal": 0.3}, {"offset": 0.7, "marginal": 0.3, "repulsion": 0.9}]
)
def test_the_loss_is_that_of_the_scores_asked_for(options: dict[str, Any], point: bool) -> None:
    head, (context, target) = make_head(**options), example()
    target = Posterior(target.mean) if point else target
    offset, marginal, r = head.offset, head.marginal, head.repulsion
    draws, targets, _ = pieces(head, context, target)
    if target.log_std is None:
        joint = energy_loss(draws, target.mean.unsqueeze(0), 1.0, r, offset)
    else:
        joint = gaussian_energy_loss(draws, target.mean, target.log_std, targets, 1.0, r, offset)
    by_hand = (1 - marginal) * joint + marginal * marginal_loss(draws, target.mean, target.log_std, r)
    torch.testing.assert_close(seeded_loss(head, context, target), by_hand)


def test_marginal_scores_alone_need_no_draw_of_the_posterior() -> None:
    head, (context, target) = make_head(marginal=1.0), example()
    draws, _, _ = pieces(head, context, target)
    expected = marginal_loss(draws, target.mean, target.log_std)
    assert torch.equal(seeded_loss(head, context, target), expected)
    assert head.training_flops(7) == 3 * head.forward_flops(7)


def test_the_schedule_by_hand() -> None:
    """The exponent reaches its end in the middle; the likelihood is gone after its fraction."""
    schedule = EnergySchedule(1.5, first_exponent=0.5, likelihood_until=0.2)
    fractions = (0.0, 0.1, 0.2, 0.25, 0.5, 1.0)
    assert [schedule.exponent_at(f) for f in fractions] == pytest.approx([0.5, 0.7, 0.9, 1.0, 1.5, 1.5])
    assert [schedule.likelihood_at(f) for f in fractions] == pytest.approx([1.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    still = EnergySchedule(1.5)
    assert {still.exponent_at(f) for f in fractions} == {1.5}
    assert {still.likelihood_at(f) for f in fractions} == {0.0}


def test_the_loss_on_the_way_and_at_the_end() -> None:
    head, (context, target) = make_head(first_exponent=0.4, likelihood_until=0.5), example()
    assert isinstance(head, ScheduledHead)
    assert target.log_std is not None
    draws, targets, z = pieces(head, context, target)
    assert head.log_scale is not None
    likelihood = draw_log_prob(draws, z, head.log_scale)
    for fraction, exponent, weight in ((0.0, 0.4, 1.0), (0.25, 0.7, 0.5), (0.5, 1.0, 0.0), (1.0, 1.0, 0.0)):
        score = gaussian_energy_loss(draws, target.mean, target.log_std, targets, exponent)
        found = seeded_loss(head, context, target, fraction)
        torch.testing.assert_close(found, score - weight * likelihood)
    assert torch.equal(found, score)
    assert "log_scale" in head.state_dict()
    assert "log_scale" not in make_head(first_exponent=0.4).state_dict()


def test_a_fresh_head_is_at_its_end_and_a_loaded_one_too() -> None:
    head, (context, target) = make_head(first_exponent=0.4, likelihood_until=0.5), example()
    before = seeded_loss(make_loaded(head), context, target)
    head.at_progress(0.1)
    fresh = make_loaded(head)
    torch.manual_seed(5)
    assert torch.equal(fresh.loss(context, target), before)


def make_loaded(head: EnergyHead) -> EnergyHead:
    other = make_head(first_exponent=0.4, likelihood_until=0.5)
    other.load_state_dict(head.state_dict())
    return other


def test_a_likelihood_beside_the_score_finds_its_scale() -> None:
    """Draws that are all at 0 and targets N(0, 0.5^2): the scale goes to 0.5. 400 units have a root mean
    square within 11 % of it but for one seed in 10^4 (chi-square of 1,200); the seed is fixed.
    """
    head = make_head(init_std=0.0, likelihood_until=1.0)
    context, target = (
        Context(torch.randn(400, 6)),
        Posterior(torch.zeros(400, 3), torch.full((400, 3), 0.5).log()),
    )
    assert head.log_scale is not None
    optimizer = torch.optim.Adam([head.log_scale], lr=0.05)
    head.at_progress(0.0)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(context, target).mean().backward()
        optimizer.step()
    assert head.log_scale.exp().item() == pytest.approx(0.5, rel=0.11)


@pytest.mark.parametrize(
    "options",
    [
        {"num_codes": -1},
        {"offset": -1.0},
        {"offset": float("inf")},
        {"offset": 0.5, "exponent": 0.7},
        {"offset": 0.5, "first_exponent": 0.7},
        {"marginal": 1.1},
        {"marginal": -0.1},
        {"first_exponent": 2.0},
        {"first_exponent": 0.0},
        {"likelihood_until": 1.1},
        {"likelihood_until": float("nan")},
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"energy: {next(iter(options))} .* would do"):
        make_head(**options)


def test_noise_that_is_neither_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="energy: noise must be input or modulation, got 'both'; "):
        network_with("both")
