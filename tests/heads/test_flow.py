from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from calmkit.heads.flow import FlowHead, flow_loss
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions
from calmkit.nn import adaln

EVENT = EventSpec((3,))


def head(**options: object) -> FlowHead:
    return FlowHead(8, EVENT, **{"depth": 1, "width": 16, **options})


def trained(net: FlowHead) -> FlowHead:
    """Weights as after training: nothing is zero."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize(("std", "floor"), [(0.5, 0.785398), (1.0, 1.570796), (2.0, 3.141593)])
def test_f3_the_best_field_is_left_with_the_irreducible_loss(std: float, floor: float) -> None:
    """pi s / 2 per dimension for a latent N(m, s^2 I), with uniform times."""
    mean = 2.0
    assert floor == pytest.approx(math.pi * std / 2, abs=5e-7)

    def best(z_t: Tensor, t: Tensor) -> Tensor:
        t = t[..., None]
        return mean + (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2) * (z_t - t * mean)

    loss = flow_loss(best, mean + std * torch.randn(32, 1000, 4))
    # 1000 independent units, each a mean of 128 values: 6 standard errors are a false alarm in 2e-9 of runs
    assert abs(loss.mean().item() - floor) < 6 * loss.std().item() / 1000**0.5
    assert loss.std().item() / 1000**0.5 < 0.02 * floor  # or the bound would say nothing
    worse = flow_loss(lambda z_t, t: best(z_t, t) + 0.5, mean + std * torch.randn(32, 1000, 4))
    # a field off by 0.5 pays its square; 6 standard errors as above
    assert abs(worse.mean().item() - floor - 0.25) < 6 * worse.std().item() / 1000**0.5


def test_loss_of_a_built_head_is_that_of_a_field_of_zero() -> None:
    z = torch.tensor([1.0, -2.0, 0.0])
    h = torch.randn(500, 8)
    loss = head(repeats=64).loss(Context(h), Posterior(z.expand(500, 3)))
    expected = 1 + (1 + 4 + 0) / 3  # E (z - noise)^2, mean over the dimensions
    assert abs(loss.mean().item() - expected) < 6 * loss.std().item() / 500**0.5  # false alarm 2e-9


def test_time_is_uniform_and_every_target_has_its_own_time_and_noise() -> None:
    times: list[Tensor] = []
    z_ts: list[Tensor] = []

    def field(z_t: Tensor, t: Tensor) -> Tensor:
        times.append(t)
        z_ts.append(z_t)
        return torch.zeros_like(z_t)

    flow_loss(field, torch.zeros(100, 50, 2))
    (t,), (z_t,) = times, z_ts
    assert t.shape == (100, 50)
    assert t.unique().numel() == 5000
    assert z_t.unique().numel() == 10000
    ordered = t.flatten().sort().values
    gap = (ordered - torch.arange(5000) / 5000).abs().max().item()
    assert gap < 2.8 / 5000**0.5  # Kolmogorov-Smirnov: 2 exp(-2 * 2.8^2) = 3e-7
    # z_t / (1 - t) is the noise again: its variance is within 6 * sqrt(2 / 10000) of 1 but for 2e-9 of runs
    assert (z_t / (1 - t[..., None])).var().item() == pytest.approx(1, abs=6 * (2 / 10000) ** 0.5)


@pytest.mark.parametrize("units", [(), (4,), (2, 5), (2, 0), (2, 1, 3)])
def test_any_leading_dimensions(units: tuple[int, ...]) -> None:
    net = trained(head(num_steps=2))
    context = Context(torch.randn(*units, 8))
    target = Posterior(torch.randn(*units, 3), torch.zeros(*units, 3))
    assert net.loss(context, target).shape == units
    assert net.sample(context, 3).shape == (3, *units, 3)


def test_units_keep_their_place() -> None:
    net = trained(head())
    h, mean = torch.randn(2, 3, 8), torch.randn(2, 3, 3)
    torch.manual_seed(1)
    loss, z = net.loss(Context(h), Posterior(mean)), net.sample(Context(h), 2)
    h[1, 2] += 1
    torch.manual_seed(1)
    changed, z_changed = net.loss(Context(h), Posterior(mean)), net.sample(Context(h), 2)
    assert (changed != loss).nonzero().tolist() == [[1, 2]]
    assert (z_changed != z).any(-1).nonzero().tolist() == [[0, 1, 2], [1, 1, 2]]


def test_a_built_head_gives_its_noise_and_temperature_scales_it() -> None:
    context = Context(torch.zeros(4, 8))
    net = head()
    noise = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3))
    for temperature in (None, 1.0, 0.25):
        options = SampleOptions(temperature=temperature, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(net.sample(context, 2, options), noise * (temperature or 1))


@pytest.mark.parametrize(
    ("solver", "calls"), [("euler", 6), ("midpoint", 12), ("dopri5", None), ("tsit5", None)]
)
def test_network_calls_as_stated_and_as_made(solver: str, calls: int | None) -> None:
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1

    net = trained(head(solver=solver, num_steps=6))
    nn.init.zeros_(
        net.net.time_embed.second.weight
    )  # a smooth field: its random waves cost adaptive solvers much
    net.net.register_forward_hook(count)
    net.sample(Context(torch.randn(4, 8)), 5)
    assert net.network_calls() == calls
    assert made == calls or (calls is None and made >= 8)
    if calls is not None:
        assert net.network_calls(SampleOptions(num_steps=3)) == calls // 2
        assert net.network_calls(SampleOptions(solver="midpoint")) == 12


def test_solvers_agree_on_the_same_noise() -> None:
    net, context = trained(head()), Context(torch.randn(4, 8))
    nn.init.zeros_(
        net.net.time_embed.second.weight
    )  # its random waves, 159 of them, would ask for 1000s of steps

    def draw(solver: str, num_steps: int | None) -> Tensor:
        options = SampleOptions(
            solver=solver, num_steps=num_steps, generator=torch.Generator().manual_seed(0)
        )
        return net.sample(context, 2, options)

    exact = draw("midpoint", 50)
    assert (exact - draw("midpoint", 1)).abs().max() > 1e-3  # or there were nothing to agree on
    for solver, num_steps in (("euler", 400), ("dopri5", None), ("tsit5", None)):
        torch.testing.assert_close(draw(solver, num_steps), exact, rtol=0, atol=5e-3)


def test_refusals() -> None:
    net, context = head(), Context(torch.zeros(1, 8))
    with pytest.raises(ValueError, match=r"flow: solver 'rk4' is refused: .*first order"):
        net.sample(context, 1, SampleOptions(solver="rk4"))
    with pytest.raises(
        ValueError, match=r"flow: num_steps got 5 beside solver 'dopri5', which chooses its own"
    ):
        net.sample(context, 1, SampleOptions(solver="dopri5", num_steps=5))
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        net.network_calls(SampleOptions(num_steps=0))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        net.sample(context, 1, SampleOptions(temperature=0.0))
    for name in ("depth", "width", "repeats", "num_steps"):
        with pytest.raises(ValueError, match=f"flow: {name} must be at least 1, got 0"):
            head(**{name: 0})
    for event in (EventSpec((4,), 256), EventSpec((2, 2))):
        with pytest.raises(ValueError, match="flow: event must be one latent vector"):
            FlowHead(8, event)


def test_draws_in_blocks_are_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaln, "MAX_ROWS", 8)
    net, seen = trained(head(num_steps=1)), []
    net.net.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[0]))
    z = net.sample(Context(torch.randn(1, 3, 8)), 5)
    assert z.shape == (5, 1, 3, 3)
    assert seen == [2, 2, 2, 2, 1, 1]  # midpoint calls twice; 8 rows hold 2 draws of 3 units
    assert z.unique().numel() == z.numel()


def test_autocast_computes_the_error_in_float32() -> None:
    net, h = trained(head()).float(), torch.randn(64, 8).float()
    target = Posterior(torch.randn(64, 3).float())
    torch.manual_seed(1)
    plain = net.loss(Context(h), target)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net.loss(Context(h), target)
        z = net.sample(Context(h))
    assert (plain.dtype, mixed.dtype, z.dtype) == (torch.float32,) * 3
    torch.testing.assert_close(mixed, plain, rtol=0.05, atol=0.05)


def test_half_precision_weights() -> None:
    net, h = trained(head()), torch.randn(64, 8)
    target = Posterior(torch.randn(64, 3))
    torch.manual_seed(1)
    plain = net.loss(Context(h), target).mean().item()
    half = net.to(torch.bfloat16)
    torch.manual_seed(1)
    loss = half.loss(Context(h.bfloat16()), target[:]).mean()
    loss.backward()
    assert loss.item() == pytest.approx(plain, rel=0.03)
    assert half.sample(Context(h.bfloat16()), 2).dtype == torch.bfloat16
    assert half.net.output.weight.grad.dtype == torch.bfloat16


def test_training_finds_mean_and_spread_of_a_conditional_gaussian() -> None:
    torch.set_default_dtype(torch.float32)  # faster
    net = FlowHead(2, EventSpec((2,)), depth=1, width=32)
    optimizer = torch.optim.Adam(net.parameters())
    std = torch.tensor([0.3, 0.8])

    def mean(h: Tensor) -> Tensor:
        return torch.stack([h[:, 0], 2 * h[:, 1] - 1], -1)

    for step in range(300):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 300)
        h = torch.randn(64, 2).sign()
        loss = net.loss(Context(h), Posterior(mean(h), std.log().expand(64, 2))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    h = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    with torch.no_grad():
        z = net.sample(Context(h), 2000)
    # Over 24 seeds the largest error was 0.052 in the means, 0.066 in the widths, and the last loss 0.862,
    # with standard deviations of 0.024, 0.022 and 0.035: each bound lies 6 of those away or more, which a
    # normal estimate passes less than once in 5e8.
    assert ((z.mean(0) - mean(h)).abs() < 0.2).all()
    assert ((z.std(0) / std - 1).abs() < 0.25).all()
    assert loss.item() < 1.25 * math.pi / 2 * std.mean().item()  # near the floor, pi s / 2


def test_sample_is_from_noise_of_the_generator_s_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    net, h = trained(head()), torch.randn(2, 3, 8)
    noise = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(1))

    def options() -> SampleOptions:
        return SampleOptions(temperature=0.5, generator=torch.Generator().manual_seed(1))

    given = net.from_noise(Context(h), noise, options())
    assert torch.equal(net.sample(Context(h), 5, options()), given)
    assert not torch.allclose(net.from_noise(Context(h), -noise, options()), given)
    monkeypatch.setattr(adaln, "MAX_ROWS", 12)  # two draws of six units at a time
    torch.testing.assert_close(net.from_noise(Context(h), noise, options()), given)
    with pytest.raises(ValueError, match=r"from_noise got noise \[5, 6, 3\] for \[2, 3\] units"):
        net.from_noise(Context(h), noise.flatten(1, 2))
