"""Guidance of every head: golden values, and the laws that hold wherever the combination is taken."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from calmkit.head_calls import guided_draws, head_draws
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.flow import FlowHead
from calmkit.heads.gaussian_mixture import Mixture, guided_mixture, mixture_log_prob, moments
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, EventSpec, Guided, SampleOptions
from calmkit.nn import adaln

H, D = 8, 3
HEADS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "energy": (EnergyHead, {"depth": 1, "width": 16}),
    "regression": (RegressionHead, {"depth": 1, "width": 16}),
    "mixture": (MixtureHead, {"depth": 1, "width": 16, "num_components": 3}),
    "flow": (FlowHead, {"depth": 1, "width": 16, "num_steps": 2}),
    "diffusion": (DiffusionHead, {"depth": 1, "width": 16, "num_steps": 4}),
    "ddpm with a learned variance": (
        DiffusionHead,
        {"depth": 1, "width": 16, "num_steps": 4, "scheduler": "ddpm", "variance": "learned"},
    ),
}


def trained(name: str) -> Any:  # any head: its parts are looked into
    """Weights as after training: nothing is zero."""
    cls, settings = HEADS[name]
    head = cls(H, EventSpec((D,)), **settings)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return head


def seeded(draw: Any, *arguments: Any) -> Tensor:
    torch.manual_seed(3)
    value = draw(*arguments)
    assert isinstance(value, Tensor)
    return value


@pytest.mark.parametrize("name", HEADS)
def test_weight_1_is_no_guidance_bit_for_bit(name: str) -> None:
    head, context, null = trained(name), Context(torch.randn(2, 5, H)), Context(torch.randn(2, 5, H))
    plain = seeded(head_draws, head, context, 3)
    for guided in (((context, 1.0), (null, 0.0)), ((null, 0.0), (context, 1.0)), ((context, 1.0),)):
        assert torch.equal(seeded(guided_draws, head, guided, 3), plain)
    assert not torch.equal(seeded(guided_draws, head, ((context, 0.0), (null, 1.0)), 3), plain)


@pytest.mark.parametrize("name", HEADS)
def test_terms_of_one_condition_are_no_guidance(name: str) -> None:
    head, context = trained(name), Context(torch.randn(2, 5, H))
    plain = seeded(head_draws, head, context, 3)
    for weights in ((3.0, -2.0), (0.25, 0.75), (1.5, -0.75, 0.25)):
        guided = tuple((context, weight) for weight in weights)
        torch.testing.assert_close(seeded(guided_draws, head, guided, 3), plain)


@pytest.mark.parametrize("name", HEADS)
def test_every_unit_has_its_own_null_condition(name: str) -> None:
    """Terms and units are stacked in one network call; a null condition moves the draws of its unit alone."""
    head, h, null = trained(name), torch.randn(2, 3, H), torch.randn(2, 3, H)
    before = seeded(guided_draws, head, ((Context(h), 1.5), (Context(null), -0.5)), 2)
    null[1, 0] += 0.1
    after = seeded(guided_draws, head, ((Context(h), 1.5), (Context(null), -0.5)), 2)
    assert before.shape == (2, 2, 3, D)
    assert (after != before).any(-1).nonzero().tolist() == [[0, 1, 0], [1, 1, 0]]


def test_a_learned_variance_is_that_of_the_first_term() -> None:
    """Two numbers of a prediction are combined by 3 and -2; the two beside them are the first condition's."""
    net = adaln.AdaLNMLP(2, H, 16, 1, outputs=2)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    z_t, t, conditions = torch.randn(5, 4, 2), torch.full((5, 4), 0.3), torch.randn(2, 4, 16)
    one, other = (net(z_t, t[:1, :1], c) for c in conditions)
    guided = adaln.guided_network(net, conditions, [3.0, -2.0])(z_t, t)
    torch.testing.assert_close(guided[..., :2], 3 * one[..., :2] - 2 * other[..., :2])
    torch.testing.assert_close(guided[..., 2:], one[..., 2:])
    assert (one[..., 2:] - other[..., 2:]).abs().max() > 1e-3


def test_weights_that_do_not_sum_to_1_are_refused() -> None:
    head, context = trained("energy"), Context(torch.randn(4, H))
    for weights in ((3.0, -1.0), (math.nan, 1.0), (0.0, 0.0)):
        guided = tuple((context, weight) for weight in weights)
        with pytest.raises(ValueError, match=r"weights must sum to 1, got .*; w and 1 - w would do"):
            guided_draws(head, guided)
    assert guided_draws(head, ((context, 1.4), (context, -0.4))).shape == (1, 4, D)  # 1.4 - 0.4 is not 1.0


def test_energy_mixes_hidden_states_as_ear_does() -> None:
    head, here, there = trained("energy"), torch.randn(4, H), torch.randn(4, H)
    mixed = seeded(guided_draws, head, ((Context(here), 3.0), (Context(there), -2.0)), 2)
    torch.testing.assert_close(mixed, seeded(head_draws, head, Context(3 * here - 2 * there), 2))
    half = [Context(h.bfloat16()) for h in (here, there)]
    drawn = guided_draws(head.bfloat16(), ((half[0], 3.0), (half[1], -2.0)), 2)
    assert drawn.dtype == torch.bfloat16


def gaussian(mean: float, std: float) -> Mixture:
    return Mixture(torch.zeros(1), torch.tensor([[mean]]), torch.tensor([[std]]))


def test_g4_guidance_of_gaussians_is_the_golden_gaussian() -> None:
    """p^(1 + w) / u^w of two Gaussians, here with weights 1 + w and -w."""
    first = guided_mixture([gaussian(0.0, 1.0), gaussian(-3.0, 1.0)], [2.0, -1.0])
    assert (first.loc.item(), first.scale.item()) == (pytest.approx(3), pytest.approx(1))
    second = guided_mixture([gaussian(0.0, 1.0), gaussian(-0.5, 1.5)], [1.4, -0.4])
    assert second.loc.item() == pytest.approx(0.0727273, abs=5e-8)
    assert second.scale.item() == pytest.approx(0.9045340, abs=5e-8)
    # by hand: lambda = 1.4 - .4 / 2.25 = 11 / 9, and the mean is .4 * .5 / 2.25 / lambda = .8 / 11
    assert second.scale.item() ** -2 == pytest.approx(11 / 9)
    assert second.loc.item() == pytest.approx(0.8 / 11)


def test_g4_an_improper_product_is_refused_with_a_weight_that_would_do() -> None:
    """N(0, 2^2) against N(0, 1) has a mass below weight 4 / 3 only."""
    wide, narrow = gaussian(0.0, 2.0), gaussian(0.0, 1.0)
    with pytest.raises(ValueError, match=r"mixture: guidance by weight 2 .* 1 of 1 units.* below 1\.333 wo"):
        guided_mixture([wide, narrow], [2.0, -1.0])
    assert guided_mixture([wide, narrow], [1.333, -0.333]).scale.item() > 30
    with pytest.raises(ValueError, match=r"below 1\.333"):
        guided_mixture([wide, narrow], [1.334, -0.334])
    two = Mixture(*(torch.stack(pair) for pair in zip(wide, narrow, strict=True)))  # two units, one improper
    null = Mixture(*(torch.stack([value, value]) for value in narrow))
    with pytest.raises(ValueError, match="1 of 2 units"):
        guided_mixture([two, null], [2.0, -1.0])


def test_a_limited_guidance_is_that_of_the_weight_whose_components_are_twice_as_wide() -> None:
    """N(1, 2^2) away from N(0, 1): c = 1 - 3 (w - 1) is 1/4 at w = 1.25, where the guided one is N(5, 4^2).

    The other unit's guidance is proper, and stays: N(1, 1) away from N(0, 1) at w = 2 is N(2, 1).
    """
    loc, scale = torch.tensor([[[1.0]], [[1.0]]]), torch.tensor([[[2.0]], [[1.0]]])
    one = torch.zeros(2, 1)
    pair = [Mixture(one, loc, scale), Mixture(one, torch.zeros(2, 1, 1), torch.ones(2, 1, 1))]
    guided = guided_mixture(pair, [2.0, -1.0], 2.0)
    torch.testing.assert_close(guided.loc.flatten(), torch.tensor([5.0, 2.0]))
    torch.testing.assert_close(guided.scale.flatten(), torch.tensor([4.0, 1.0]))
    head = MixtureHead(H, EventSpec((D,)), depth=1, width=16, num_components=3, limit_guidance=True)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    h = torch.randn(2, 50, H)
    assert guided_draws(head, ((Context(h[0]), 9.0), (Context(h[1]), -8.0)), 1).isfinite().all()


def test_three_gaussians_combine_as_their_log_densities_do() -> None:
    """Two levels of guidance: precisions and precisions times means add up by their weights."""
    parts, weights = [gaussian(1.0, 1.0), gaussian(-0.5, 1.5), gaussian(0.3, 2.0)], [2.0, -0.7, -0.3]
    found = guided_mixture(parts, weights)
    precision = 2 / 1 - 0.7 / 2.25 - 0.3 / 4
    assert found.scale.item() == pytest.approx(precision**-0.5)
    assert found.loc.item() == pytest.approx((2 * 1 / 1 + 0.7 * 0.5 / 2.25 - 0.3 * 0.3 / 4) / precision)


def random_mixture(seed: int, dim: int = 2) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    loc = torch.randn(3, dim, generator=generator)
    scale = 0.5 + torch.rand(3, dim, generator=generator)
    return Mixture(torch.randn(3, generator=generator).log_softmax(-1), loc, scale)


def test_a_guided_mixture_is_the_tilted_density_normalised_on_a_grid() -> None:
    """p (G_p / G_u)^(w - 1), against sums over a grid: weights, places and widths of all components."""
    p, u, weight = random_mixture(0), random_mixture(1), 1.6
    found = guided_mixture([p, u], [weight, 1 - weight])
    axis = torch.linspace(-12, 12, 601)
    grid = torch.cartesian_prod(axis, axis)

    def log_prob(mixture: Mixture) -> Tensor:
        rows = Mixture(*(value.expand(len(grid), *value.shape) for value in mixture))
        return mixture_log_prob(grid, rows)

    def single(mixture: Mixture) -> Tensor:
        mean, variance = moments(mixture)
        return Normal(mean, variance.sqrt()).log_prob(grid).sum(-1)

    tilted = log_prob(p) + (weight - 1) * (single(p) - single(u))
    area = (axis[1] - axis[0]).item() ** 2
    expected = tilted - torch.logsumexp(tilted, 0) - math.log(area)
    assert (log_prob(found).exp().sum() * area).item() == pytest.approx(1, abs=1e-9)
    likely = expected > -12
    torch.testing.assert_close(log_prob(found)[likely], expected[likely])
    assert (log_prob(p)[likely] - expected[likely]).abs().max() > 0.5  # or there were nothing to see


def test_moments_are_those_of_golden_g1() -> None:
    weights, loc = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([[0.0, 0.0], [1.0, 2.0], [-1.0, 0.5]])
    mean, variance = moments(Mixture(weights.log(), loc, torch.tensor([[1.0, 1.0], [0.5, 2.0], [0.3, 0.7]])))
    torch.testing.assert_close(mean, torch.tensor([0.2, 1.15]))
    torch.testing.assert_close(variance, torch.tensor([1.112, 3.0995]))


def test_the_tilt_is_nearer_to_the_power_than_powers_of_components() -> None:
    """Where a null condition's mixture holds the condition's: p^w u^(1 - w) itself is summed on a grid.

    The other choice, (pi_k N_k)^w G_u^(1 - w) for each component, is exact for single Gaussians too.
    """
    axis, weight, away = torch.linspace(-15, 15, 3001).unsqueeze(-1), 1.4, {"tilt": 0.0, "powers": 0.0}
    for seed in range(20):
        p, rest = random_mixture(seed, 1), random_mixture(100 + seed, 1)
        half = [p.log_weights - math.log(2), rest.log_weights - math.log(2)]
        u = Mixture(torch.cat(half), torch.cat([p.loc, rest.loc]), torch.cat([p.scale, rest.scale]))
        mean, variance = moments(u)
        powers = []
        for k in range(3):
            product = Normal(p.loc[k], p.scale[k]).log_prob(axis) * weight
            product = product + (1 - weight) * Normal(mean, variance.sqrt()).log_prob(axis)
            powers.append(weight * p.log_weights[k] + product.squeeze(-1))
        laws = {
            "exact": weight * on_line(p, axis) + (1 - weight) * on_line(u, axis),
            "tilt": on_line(guided_mixture([p, u], [weight, 1 - weight]), axis),
            "powers": torch.stack(powers).logsumexp(0),
        }
        masses = {name: law.softmax(0) for name, law in laws.items()}
        for name in away:
            away[name] += (masses[name] - masses["exact"]).abs().sum().item() / 2 / 20  # total variation
    assert away["tilt"] < 0.6 * away["powers"]


def on_line(mixture: Mixture, axis: Tensor) -> Tensor:
    return mixture_log_prob(axis, Mixture(*(value.expand(len(axis), *value.shape) for value in mixture)))


def test_guidance_does_not_ask_which_component_is_which() -> None:
    p, u = random_mixture(0), random_mixture(1)
    other = Mixture(*(value[torch.tensor([2, 0, 1])] for value in u))
    for left, right in zip(
        guided_mixture([p, u], [1.5, -0.5]), guided_mixture([p, other], [1.5, -0.5]), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_temperature_scales_the_components_of_a_guided_mixture() -> None:
    head = trained("mixture")
    guided: Guided = ((Context(torch.randn(4, H)), 1.5), (Context(torch.randn(4, H)), -0.5))
    cold, half, plain = (
        guided_draws(head, guided, 50, SampleOptions(t, generator=torch.Generator().manual_seed(0)))
        for t in (1e-12, 0.5, 1.0)
    )
    torch.testing.assert_close(half, cold + 0.5 * (plain - cold))
    assert (plain - cold).abs().max() > 0.1


def exact_gaussian(head: FlowHead | DiffusionHead, std: float) -> None:
    """Let the network be exact for N(h, std^2) given h, in one dimension."""
    flow = isinstance(head, FlowHead)

    def velocity(z_t: Tensor, t: Tensor, mean: Tensor) -> Tensor:
        return mean + (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2) * (z_t - t * mean)

    def v(z_t: Tensor, t: Tensor, mean: Tensor) -> Tensor:
        timestep = (999 - 1000 * t.squeeze(-1)).round().long()  # t = 1 - (k + 1) / T
        assert isinstance(head, DiffusionHead)
        alpha, sigma = (level[..., None] for level in head.schedule.levels(timestep, z_t.dtype))
        spread = alpha**2 * std**2 + sigma**2
        z = (sigma**2 * mean + alpha * std**2 * z_t) / spread
        return alpha * (z_t - alpha * z) / sigma - sigma * z

    def network(z_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return (velocity if flow else v)(z_t, t.unsqueeze(-1), c)

    head.net.condition = lambda h: h  # type: ignore[method-assign]
    head.net.forward = network  # type: ignore[method-assign]


def test_f4_guided_flow_of_equal_widths_is_the_combined_gaussian() -> None:
    """N(1, .5^2) and N(0, .5^2) with weights 3, -2: the noise is carried to 3 + noise / 2."""
    head = FlowHead(1, EventSpec((1,)), depth=1, num_steps=200)
    exact_gaussian(head, 0.5)
    noise = torch.randn(6, 4, 1, generator=torch.Generator().manual_seed(2))
    guided: Guided = ((Context(torch.ones(4, 1)), 3.0), (Context(torch.zeros(4, 1)), -2.0))
    draws = guided_draws(head, guided, 6, SampleOptions(generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(draws, 3 + 0.5 * noise, rtol=0, atol=1e-6)
    two_levels: Guided = (*guided[:1], (Context(torch.zeros(4, 1)), -1.5), (Context(torch.ones(4, 1)), -0.5))
    draws = guided_draws(head, two_levels, 6, SampleOptions(generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(draws, 2.5 + 0.5 * noise, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_guided_diffusion_of_equal_widths_is_the_combined_gaussian(scheduler: str) -> None:
    """The exact denoisers of N(1, .5^2) and N(0, .5^2), weights 3 and -2: again 3 + noise / 2."""
    head = DiffusionHead(1, EventSpec((1,)), depth=1, scheduler=scheduler, num_steps=500)  # type: ignore[arg-type]
    exact_gaussian(head, 0.5)
    noise = torch.randn(6, 4, 1, generator=torch.Generator().manual_seed(2))
    guided: Guided = ((Context(torch.ones(4, 1)), 3.0), (Context(torch.zeros(4, 1)), -2.0))
    draws = guided_draws(head, guided, 6, SampleOptions(generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(draws, 3 + 0.5 * noise, rtol=0, atol=5e-3)


def test_the_terms_of_a_guided_draw_share_one_network_call_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    head, seen = trained("flow"), []
    head.net.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[:2])))
    guided: Guided = ((Context(torch.randn(1, 3, H)), 2.0), (Context(torch.randn(1, 3, H)), -1.0))
    whole = seeded(guided_draws, head, guided, 5)
    assert seen == [(5, 6)] * 4  # two steps of midpoint; 5 draws of 2 terms of 3 units
    seen.clear()
    monkeypatch.setattr(adaln, "MAX_ROWS", 12)  # two draws at a time
    torch.testing.assert_close(seeded(guided_draws, head, guided, 5), whole)
    assert [shape[0] for shape in seen] == [2] * 8 + [1] * 4
