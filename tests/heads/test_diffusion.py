from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from calmkit.dynamics.schedules import Schedule, alphas_cumprod, trailing_timesteps
from calmkit.heads.diffusion import DiffusionHead, diffusion_loss
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions
from calmkit.nn import adaln

EVENT = EventSpec((3,))
every = pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++"])


def head(**options: object) -> DiffusionHead:
    return DiffusionHead(8, EVENT, **{"depth": 1, "width": 16, **options})


def trained(net: DiffusionHead) -> DiffusionHead:
    """Weights as after training: nothing is zero."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("std", [0.5, 1.0])
def test_d2_the_best_denoiser_is_left_with_the_irreducible_loss(prediction: str, std: float) -> None:
    schedule, mean = Schedule(prediction=prediction), 2.0

    def best(z_t: Tensor, t: Tensor) -> Tensor:
        a, s = (x[..., None] for x in schedule.levels((999 - 1000 * t).round().long(), z_t.dtype))
        q = a**2 * std**2 + s**2
        epsilon, z = s * (z_t - a * mean) / q, (s**2 * mean + a * std**2 * z_t) / q
        return epsilon if prediction == "epsilon" else a * epsilon - s * z

    loss = diffusion_loss(best, mean + std * torch.randn(32, 1000, 4), schedule)
    alpha_bar = alphas_cumprod(1000)
    left = std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
    floor = (left if prediction == "v" else alpha_bar * left).mean().item()
    if prediction == "epsilon":
        assert floor == pytest.approx({0.5: 0.327653, 1.0: 0.495578}[std], abs=5e-7)
    # 1000 independent units: 6 standard errors are a false alarm in 2e-9 of runs
    assert abs(loss.mean().item() - floor) < 6 * loss.std().item() / 1000**0.5
    assert loss.std().item() / 1000**0.5 < 0.02 * floor  # or the bound would say nothing


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_loss_of_a_built_head_is_that_of_a_prediction_of_zero(prediction: str) -> None:
    z, h = torch.tensor([1.0, -2.0, 0.0]), torch.randn(500, 8)
    loss = head(repeats=64, prediction=prediction).loss(Context(h), Posterior(z.expand(500, 3)))
    alpha_bar = alphas_cumprod(1000).mean().item()
    # E noise^2, or E (alpha_t noise - sigma_t z)^2, mean over the dimensions
    expected = 1.0 if prediction == "epsilon" else alpha_bar + (1 - alpha_bar) * 5 / 3
    assert abs(loss.mean().item() - expected) < 6 * loss.std().item() / 500**0.5  # false alarm 2e-9


def test_every_target_has_its_own_timestep_and_the_network_is_told_the_level_that_was_mixed() -> None:
    schedule = Schedule(train_timesteps=10, prediction="epsilon")
    told: list[Tensor] = []
    mixed: list[Tensor] = []

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        told.append(t)
        mixed.append(z_t)
        return torch.zeros_like(z_t)

    diffusion_loss(denoiser, torch.full((300, 40, 2), 1e6), schedule)
    (t,), (z_t,) = told, mixed
    assert t.shape == (300, 40)
    # 12000 timesteps of 10 kinds: 1200 each, 33 being one sigma; 7 sigma for ten kinds: 3e-11
    counts = [(t - k / 10).abs().lt(1e-9).sum().item() for k in range(10)]
    assert sum(counts) == 12000
    assert all(abs(count - 1200) < 7 * 33 for count in counts)
    # of a latent of a million, alpha_t is what is left: 1 - (k + 1) / T = t belongs to timestep k
    alpha_t = alphas_cumprod(10).sqrt()[(9 - 10 * t).round().long()]
    torch.testing.assert_close(z_t / 1e6, alpha_t[..., None].expand(300, 40, 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("units", [(), (4,), (2, 5), (2, 0), (2, 1, 3)])
def test_any_leading_dimensions(units: tuple[int, ...]) -> None:
    net = trained(head(num_steps=4))
    context = Context(torch.randn(*units, 8))
    target = Posterior(torch.randn(*units, 3), torch.zeros(*units, 3))
    assert net.loss(context, target).shape == units
    for scheduler in ("ddpm", "ddim", "dpm++"):
        assert net.sample(context, 3, SampleOptions(solver=scheduler)).shape == (3, *units, 3)


@every
def test_units_keep_their_place(scheduler: str) -> None:
    net = trained(head(scheduler=scheduler, num_steps=4))
    h, mean = torch.randn(2, 3, 8), torch.randn(2, 3, 3)
    torch.manual_seed(1)
    loss, z = net.loss(Context(h), Posterior(mean)), net.sample(Context(h), 2)
    h[1, 2] += 1
    torch.manual_seed(1)
    changed, z_changed = net.loss(Context(h), Posterior(mean)), net.sample(Context(h), 2)
    assert (changed != loss).nonzero().tolist() == [[1, 2]]
    assert (z_changed != z).any(-1).nonzero().tolist() == [[0, 1, 2], [1, 1, 2]]


@pytest.mark.parametrize("temperature", [None, 0.25])
def test_ddim_turns_the_noise_of_a_built_head_step_by_step(temperature: float | None) -> None:
    """Where v is 0, z = alpha_t z_t and noise = sigma_t z_t: from angle p to q, z_t shrinks by cos(p - q)."""
    options = SampleOptions(
        solver="ddim", num_steps=5, temperature=temperature, generator=torch.Generator().manual_seed(3)
    )
    z = head().sample(Context(torch.zeros(4, 8)), 2, options)
    alpha_bar = alphas_cumprod(1000)
    angles = [math.acos(alpha_bar[k].item() ** 0.5) for k in trailing_timesteps(1000, 5)] + [0.0]
    shrunk = math.prod(math.cos(p - q) for p, q in itertools.pairwise(angles))
    noise = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(z, shrunk * (temperature or 1) * noise, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("scheduler", "usual"), [("ddpm", 100), ("ddim", 20), ("dpm++", 20)])
def test_network_calls_as_stated_and_as_made(scheduler: str, usual: int) -> None:
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1

    net = trained(head(scheduler=scheduler))
    net.net.register_forward_hook(count)
    net.sample(Context(torch.randn(4, 8)), 5)
    assert net.network_calls() == usual == made
    assert net.network_calls(SampleOptions(num_steps=8)) == 8
    assert net.network_calls(SampleOptions(solver="ddpm")) == 100
    assert head(num_steps=25).network_calls(SampleOptions(solver="ddpm")) == 25  # as the head was built


@every
def test_same_generator_same_draws_and_the_default_one_is_left_alone(scheduler: str) -> None:
    net, context = trained(head(scheduler=scheduler, num_steps=4)), Context(torch.randn(4, 8))

    def draw(seed: int) -> Tensor:
        return net.sample(context, 2, SampleOptions(generator=torch.Generator().manual_seed(seed)))

    state = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_refusals() -> None:
    net, context = head(), Context(torch.zeros(1, 8))
    with pytest.raises(ValueError, match=r"diffusion: num_steps of .*'ddim' must divide.*25 would do"):
        net.sample(context, 1, SampleOptions(solver="ddim", num_steps=30))
    with pytest.raises(ValueError, match="diffusion: num_steps of scheduler 'ddim' must divide"):
        head(scheduler="ddim", num_steps=30)
    with pytest.raises(ValueError, match="diffusion: scheduler 'midpoint' is not known"):
        net.network_calls(SampleOptions(solver="midpoint"))
    with pytest.raises(ValueError, match="at most train_timesteps 10, got 20"):
        head(train_timesteps=10)
    with pytest.raises(ValueError, match="zero_terminal_snr got prediction 'epsilon'"):
        head(prediction="epsilon", zero_terminal_snr=True)
    for name in ("depth", "width", "repeats"):
        with pytest.raises(ValueError, match=f"diffusion: {name} must be at least 1, got 0"):
            head(**{name: 0})
    for event in (EventSpec((4,), 256), EventSpec((2, 2))):
        with pytest.raises(ValueError, match="diffusion: event must be one latent vector"):
            DiffusionHead(8, event)


def test_draws_in_blocks_are_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaln, "MAX_ROWS", 8)
    net, seen = trained(head(num_steps=1)), []
    net.net.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[0]))
    z = net.sample(Context(torch.randn(1, 3, 8)), 5)
    assert z.shape == (5, 1, 3, 3)
    assert seen == [2, 2, 1]  # 8 rows hold 2 draws of 3 units
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
    loss = half.loss(Context(h.bfloat16()), target).mean()
    loss.backward()
    assert loss.item() == pytest.approx(plain, rel=0.03)
    assert half.sample(Context(h.bfloat16()), 2).dtype == torch.bfloat16
    assert half.net.output.weight.grad.dtype == torch.bfloat16


def test_training_finds_mean_and_spread_of_a_conditional_gaussian() -> None:
    torch.set_default_dtype(torch.float32)  # faster
    net = DiffusionHead(2, EventSpec((2,)), depth=1, width=32)
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
    for scheduler in ("dpm++", "ddim", "ddpm"):
        with torch.no_grad():
            z = net.sample(Context(h), 1000, SampleOptions(solver=scheduler))
        # Over 24 seeds the largest error of the three was 0.065 in the means, 0.117 in the widths, with
        # standard deviations of 0.023 and 0.021 at most: each bound lies 6 of those away or more, which a
        # normal estimate passes less than once in 5e8.
        assert ((z.mean(0) - mean(h)).abs() < 0.21).all()
        assert ((z.std(0) / std - 1).abs() < 0.25).all()


def test_sample_is_from_noise_of_the_generator_s_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    net, h = trained(head()), torch.randn(2, 3, 8)
    noise = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(1))

    def options() -> SampleOptions:
        return SampleOptions(
            solver="ddim", num_steps=5, temperature=0.5, generator=torch.Generator().manual_seed(1)
        )

    given = net.from_noise(Context(h), noise, options())
    assert torch.equal(net.sample(Context(h), 5, options()), given)
    assert not torch.allclose(net.from_noise(Context(h), -noise, options()), given)
    monkeypatch.setattr(adaln, "MAX_ROWS", 12)  # two draws of six units at a time
    torch.testing.assert_close(net.from_noise(Context(h), noise, options()), given)
    with pytest.raises(ValueError, match=r"from_noise got noise \[5, 6, 3\] for \[2, 3\] units"):
        net.from_noise(Context(h), noise.flatten(1, 2))
