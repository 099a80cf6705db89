"""The mixture head: its density against golden values and laws, and its draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.heads.gaussian_mixture import Mixture, mixture_log_prob
from calmkit.heads.mixture import MixtureHead, square_plus
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions

WEIGHTS = [0.2, 0.5, 0.3]
LOC = [[0.0, 0.0], [1.0, 2.0], [-1.0, 0.5]]
SCALE = [[1.0, 1.0], [0.5, 2.0], [0.3, 0.7]]


def fixed_head(weights: list[float], loc: list[list[float]], scale: list[list[float]]) -> MixtureHead:
    """A head whose mixture is the given one, whatever the context: the last layer is its bias alone."""
    head = MixtureHead(4, EventSpec((len(loc[0]),)), num_components=len(weights), depth=1)
    width = torch.tensor(scale)
    parts = torch.cat([torch.tensor(loc), width - 1 / width], -1)  # square_plus(s - 1 / s) = s
    torch.nn.init.zeros_(head.network.write.weight)
    logits = torch.tensor(weights).log() + 0.7  # what is added to all of them must not matter
    head.network.write.bias.data = torch.cat([logits, parts.flatten()])
    return head


def golden_head() -> MixtureHead:
    return fixed_head(WEIGHTS, LOC, SCALE)


def log_prob_at(z: tuple[float, float], dtype: torch.dtype) -> float:
    value = golden_head().to(dtype).log_prob(Context(torch.randn(4, dtype=dtype)), torch.tensor(z).to(dtype))
    assert value.dtype == dtype
    return value.item()


def test_g1_log_prob() -> None:
    expected = -3.0347240010945735
    assert log_prob_at((0.4, -0.3), torch.float64) == pytest.approx(expected, rel=1e-13)
    assert log_prob_at((0.4, -0.3), torch.float32) == pytest.approx(expected, rel=1e-5)  # it has 7 digits
    total = 0.0  # and once more by hand, from the sum of three densities
    for weight, loc, scale in zip(WEIGHTS, LOC, SCALE, strict=True):
        square = sum(((x - m) / s) ** 2 for x, m, s in zip((0.4, -0.3), loc, scale, strict=True))
        total += weight * math.exp(-square / 2) / (2 * math.pi * scale[0] * scale[1])
    assert math.log(total) == pytest.approx(expected, rel=1e-13)


def test_g3_log_prob_far_away_is_finite() -> None:
    """At (1000, 1000) each of the three densities underflows to 0: the sum must be taken in logarithms."""
    expected = -1000003.4473149789
    assert log_prob_at((1e3, 1e3), torch.float64) == pytest.approx(expected, rel=1e-13)
    assert log_prob_at((1e3, 1e3), torch.float32) == pytest.approx(expected, rel=1e-5)


def test_g1_mean_and_covariance_are_those_of_the_draws() -> None:
    """Mean (.2, 1.15), covariance ((1.112, .62), (.62, 3.0995)), by hand from the components.

    Draws against them: 6 standard errors of 1e5 draws, five times, are a false alarm below 1e-8.
    """
    weights, loc, scale = torch.tensor(WEIGHTS)[:, None], torch.tensor(LOC), torch.tensor(SCALE)
    by_hand = (weights * loc).sum(0)
    torch.testing.assert_close(by_hand, torch.tensor([0.2, 1.15]))
    covariance = (weights * scale**2).sum(0).diag() + (weights * loc).T @ loc - by_hand.outer(by_hand)
    torch.testing.assert_close(covariance, torch.tensor([[1.112, 0.62], [0.62, 3.0995]]))
    draws = golden_head().sample(Context(torch.randn(4)), 100_000)
    products = torch.stack([draws[:, 0] ** 2, draws[:, 0] * draws[:, 1], draws[:, 1] ** 2], -1)
    mean = torch.tensor([0.2, 1.15])
    second = torch.tensor([1.112 + 0.2**2, 0.62 + 0.2 * 1.15, 3.0995 + 1.15**2])
    for values, expected in ((draws, mean), (products, second)):
        tolerance = 6 * values.std(0) / len(values) ** 0.5
        assert ((values.mean(0) - expected).abs() < tolerance).all()


def test_g_one_component_and_equal_components_are_a_gaussian() -> None:
    z, loc, log_scale = torch.randn(5, 3), torch.randn(5, 1, 3), torch.randn(5, 1, 3)
    expected = torch.distributions.Normal(loc[:, 0], log_scale[:, 0].exp()).log_prob(z).sum(-1)
    for count in (1, 4):
        log_weights = torch.randn(5, count).log_softmax(-1)
        parts = (value.expand(5, count, 3) for value in (loc, log_scale.exp()))
        torch.testing.assert_close(mixture_log_prob(z, Mixture(log_weights, *parts)), expected)


@pytest.mark.parametrize("dim", [1, 2])
def test_g5_the_density_integrates_to_one(dim: int) -> None:
    head = fixed_head(WEIGHTS, [row[:dim] for row in LOC], [row[:dim] for row in SCALE])
    axis = torch.linspace(
        -12, 16, 401
    )  # at least 7 standard deviations on each side, 4 steps in the smallest
    grid = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    log_prob = head.log_prob(Context(torch.zeros(len(grid), 4)), grid)
    assert (log_prob.exp().sum() * (axis[1] - axis[0]) ** dim).item() == pytest.approx(1, abs=1e-9)


def test_g_temperature_scales_components_and_keeps_weights() -> None:
    head, context, draws = golden_head(), Context(torch.randn(4)), {}
    for temperature in (1.0, 0.5, 1e-12):
        generator = torch.Generator().manual_seed(0)
        draws[temperature] = head.sample(context, 20_000, SampleOptions(temperature, generator=generator))
    means = draws[1e-12]
    torch.testing.assert_close(draws[0.5], means + 0.5 * (draws[1.0] - means))
    which = (means.unsqueeze(1) - torch.tensor(LOC)).norm(dim=-1) < 1e-9  # [20000, 3]: at one location each
    assert (which.sum(1) == 1).all()
    weights = torch.tensor(WEIGHTS)
    tolerance = 6 * (weights * (1 - weights) / 20_000).sqrt()  # false alarm below 1e-8
    assert ((which.double().mean(0) - weights).abs() < tolerance).all()


def test_square_plus_by_hand() -> None:
    x = torch.tensor([0.0, 1.5, -1.5], requires_grad=True)
    value = square_plus(x)
    torch.testing.assert_close(value, torch.tensor([1.0, 2.0, 0.5]))  # (1.5 + 2.5) / 2 and (-1.5 + 2.5) / 2
    value.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.5, 0.8, 0.2]))  # f / sqrt(x^2 + 4)
    far = torch.tensor([-1e4, 1e4], dtype=torch.float32, requires_grad=True)
    value = square_plus(far)
    assert value.tolist() == pytest.approx([1e-4, 1e4])  # the textbook form gives 0 in float32
    value.sum().backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()


def test_min_scale_is_the_narrowest() -> None:
    """At a component of width 1e-9 floored at 1e-3, the density is that of width 1e-3."""
    head = fixed_head([1.0], [[0.0]], [[1e-9]])
    head.min_scale = 1e-3
    value = head.log_prob(Context(torch.zeros(4)), torch.zeros(1))
    assert value.item() == pytest.approx(math.log(1e3) - 0.5 * math.log(2 * math.pi))


def test_loss_is_the_negative_log_density_of_posterior_draws() -> None:
    head = MixtureHead(4, EventSpec((3,)), repeats=3, depth=1)
    context, mean = Context(torch.randn(2, 5, 4)), torch.randn(2, 5, 3)
    torch.testing.assert_close(head.loss(context, Posterior(mean)), -head.log_prob(context, mean))
    target = Posterior(mean, torch.randn(2, 5, 3))
    torch.manual_seed(4)
    loss = head.loss(context, target)
    torch.manual_seed(4)
    expected = torch.stack([-head.log_prob(context, z) for z in target.sample(3)]).mean(0)
    torch.testing.assert_close(loss, expected)
    assert loss.shape == (2, 5)


def test_components_start_apart() -> None:
    """Equal components would get equal gradients for ever."""
    head = MixtureHead(4, EventSpec((3,)), num_components=5)
    draws = head.sample(Context(torch.randn(4)), 200, SampleOptions(temperature=1e-12))
    assert len(draws[:, 0].round(decimals=6).unique()) == 5  # one missed: 5 (0.8)^200 < 1e-18


def test_gradients_stay_finite_far_away_in_float32() -> None:
    head = MixtureHead(4, EventSpec((3,)), depth=1).float()
    head.loss(Context(torch.randn(2, 4).float()), Posterior(torch.full((2, 3), 1e4).float())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_the_density_is_float32_under_autocast() -> None:
    head, context = golden_head().float(), Context(torch.randn(4).float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = head.log_prob(context, torch.tensor([0.4, -0.3]).float())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(-3.0347240010945735, abs=0.05)  # the numbers come from bfloat16


def test_shapes_generator_and_options() -> None:
    head, h = MixtureHead(4, EventSpec((3,)), num_components=2, depth=1), torch.randn(2, 5, 4)
    draws: list[Tensor] = [
        head.sample(Context(h), 6, SampleOptions(generator=torch.Generator().manual_seed(seed)))
        for seed in (5, 5, 6)
    ]
    assert draws[0].shape == (6, 2, 5, 3)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert head.sample(Context(h[:0]), 6).shape == (6, 0, 5, 3)
    half = head.bfloat16()
    assert half.sample(Context(h.bfloat16())).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="solver"):
        head.sample(Context(h), 2, SampleOptions(solver="euler"))


@pytest.mark.parametrize(
    "options",
    [{"num_components": 0}, {"repeats": 0}, {"depth": 0}, {"width": 0}, {"min_scale": 0.0}],
)
def test_impossible_settings_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"mixture: {next(iter(options))} .* would do"):
        MixtureHead(4, EventSpec((3,)), **options)


def test_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="one latent vector"):
        MixtureHead(6, EventSpec((4,), vocab_size=257))
