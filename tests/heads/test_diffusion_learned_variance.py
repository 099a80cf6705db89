"""The diffusion head's learned variance, told timestep and linspace spacing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.dynamics.ancestral import StepTable, step_bits
from calmkit.dynamics.denoise import denoise
from calmkit.dynamics.schedules import Schedule, alphas_cumprod, linspace_timesteps
from calmkit.heads.diffusion import DiffusionHead, diffusion_loss
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions
from calmkit.testing import check_head

EVENT = EventSpec((3,))
MEAN, STD = torch.tensor([2.0, -1.0, 0.5]).double(), torch.tensor([0.5, 1.0, 0.2]).double()


def table() -> StepTable:
    """Two levels that a reader can redo: alpha_bar 0.8, then 0.2."""
    return StepTable.of(torch.tensor([0.8, 0.2]))


def test_step_table_by_hand() -> None:
    # the second step keeps 1/4 of alpha_bar: beta 3/4, variance 3/4 * 0.2 / 0.8 = 3/16
    assert table().log_most.exp().tolist() == pytest.approx([0.2, 0.75])
    assert table().log_least.exp().tolist() == pytest.approx([3 / 16, 3 / 16])  # the first has the second's
    assert table().on_z.tolist() == pytest.approx([1.0, 0.8**0.5 * 0.75 / 0.8])
    assert table().on_z_t.tolist() == pytest.approx([0.0, 0.5 * 0.2 / 0.8])


def test_log_variance_goes_from_the_posterior_to_beta() -> None:
    step = table()[torch.tensor([1])]
    for share, variance in ((-1.0, 3 / 16), (1.0, 3 / 4), (0.0, 3 / 8)):  # 3/8 is their geometric mean
        assert step.log_variance(torch.tensor([[share]])).exp().item() == pytest.approx(variance)


def test_bits_of_a_step_by_hand() -> None:
    step, inside = table()[torch.tensor([1])], torch.tensor([False])
    z, one = torch.zeros(1, 1), torch.ones(1, 1)
    assert step_bits(z, z, -one, step, inside).item() == 0.0  # the posterior itself
    # four times its variance: (ln 4 - 1 + 1/4) / 2 nats
    wider = (math.log(4) - 0.75) / 2 / math.log(2)
    assert step_bits(z, z, one, step, inside).item() == pytest.approx(wider)
    # off by 1 in the latent: a^2 / (2 * 3/16) nats, a^2 = 0.8 * (0.75 / 0.8)^2
    assert step_bits(z, one, -one, step, inside).item() == pytest.approx(
        0.8 * 0.9375**2 * 8 / 3 / math.log(2)
    )


def test_bits_of_the_last_step_are_those_of_a_gaussian() -> None:
    step, z = table()[torch.tensor([0])], torch.tensor([[1.5]])
    bits = step_bits(z, z - 0.3, torch.ones(1, 1), step, torch.tensor([True]))
    density = torch.distributions.Normal(1.2, 0.2**0.5).log_prob(torch.tensor(1.5))
    assert bits.item() == pytest.approx(-density.item() / math.log(2))


def best(schedule: Schedule, share: float = 0.0) -> Any:
    """The best denoiser for latents N(MEAN, STD^2), and one share for the variance."""

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        k = t.long() if schedule.tell == "timestep" else (999 - 1000 * t).round().long()
        a, s = (level[..., None] for level in schedule.levels(k, torch.float64))
        both = a**2 * STD**2 + s**2
        epsilon = s * (z_t - a * MEAN) / both
        z = (s**2 * MEAN + a * STD**2 * z_t) / both
        out = epsilon if schedule.prediction == "epsilon" else a * epsilon - s * z
        return torch.cat([out, torch.full_like(out, share)], -1)

    return denoiser


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("scheduler", ["ddpm", "dpm++"])
@pytest.mark.parametrize("tell", ["time", "timestep"])
def test_draws_of_a_learned_variance_have_the_law_of_the_data(
    prediction: Any, scheduler: str, tell: Any
) -> None:
    schedule = Schedule(prediction=prediction, variance="learned", tell=tell, spacing="linspace")
    noise, generator = torch.randn(4000, 3), torch.Generator().manual_seed(1)
    draws = denoise(best(schedule), noise, schedule, scheduler=scheduler, num_steps=250, generator=generator)
    # the error of the mean is Gaussian with s / sqrt(4000), of the spread s / sqrt(8000): 6 sigma, 48
    # numbers, 1e-7;
    # 250 steps bend the law by at most 0.013 of its width (measured on 300,000 draws)
    assert ((draws.mean(0) - MEAN).abs() < 6 * STD / 4000**0.5 + 0.02 * STD).all()
    assert ((draws.std(0) / STD - 1).abs() < 6 / 8000**0.5 + 0.02).all()


def test_a_wider_share_makes_wider_steps_and_the_last_step_has_no_noise() -> None:
    schedule, noise = Schedule(prediction="epsilon", variance="learned"), torch.randn(2000, 3)
    narrow, wide = (
        denoise(best(schedule, share), noise, schedule, scheduler="ddpm", num_steps=10)
        for share in (-1.0, 1.0)
    )
    assert (wide.std(0) > 1.1 * narrow.std(0)).all()
    once = [denoise(best(schedule, 1.0), noise, schedule, scheduler="ddpm", num_steps=1) for _ in range(2)]
    assert torch.equal(*once)


def test_the_loss_adds_the_bits_and_their_gradient_reaches_the_share_alone() -> None:
    schedule = Schedule(prediction="epsilon", variance="learned")
    z = MEAN + STD * torch.randn(8, 50, 3)
    epsilon, share = torch.zeros(8, 50, 3, requires_grad=True), torch.zeros(8, 50, 3, requires_grad=True)
    torch.manual_seed(3)
    loss = diffusion_loss(lambda z_t, t: torch.cat([epsilon, share], -1), z, schedule).sum()
    loss.backward()
    torch.manual_seed(3)
    plain = diffusion_loss(lambda z_t, t: epsilon, z, Schedule(prediction="epsilon")).sum()
    (alone,) = torch.autograd.grad(plain, epsilon)
    assert torch.equal(alone, epsilon.grad)
    assert share.grad is not None
    assert (share.grad != 0).all()
    assert not torch.isclose(loss, plain)


def test_the_best_share_lies_where_the_posterior_mean_leaves_it() -> None:
    """With the latent known exactly the bits are least at share -1, the posterior's own variance."""
    schedule = Schedule(prediction="epsilon", variance="learned")
    timesteps = torch.arange(1, 1000)
    z = torch.randn(999, 3)
    steps = schedule.steps(timesteps, torch.float64)
    bits = [step_bits(z, z, torch.full_like(z, share), steps, timesteps == 0) for share in (-1.0, -0.5, 0.5)]
    assert torch.allclose(bits[0], torch.zeros(999), atol=1e-12)
    assert (bits[1] > 0).all()
    assert (bits[2] > bits[1]).all()


def test_linspace_holds_both_ends() -> None:
    assert linspace_timesteps(10, 4) == [9, 6, 3, 0]
    assert linspace_timesteps(1000, 100)[:3] == [999, 989, 979]
    assert linspace_timesteps(1000, 100)[-3:] == [20, 10, 0]
    assert linspace_timesteps(1000, 1) == [999]
    # 999 / 20 = 49.95 as a binary fraction, added up ten times, stays below 499.5; ten times at once is
    # 499.5, a tie that would go to 500
    assert linspace_timesteps(1000, 21)[10] == 499
    assert linspace_timesteps(50, 50) == list(range(49, -1, -1))


def test_ddim_does_not_walk_linspace() -> None:
    with pytest.raises(ValueError, match=r"diffusion: scheduler 'ddim' got spacing 'linspace'.*trailing"):
        DiffusionHead(8, EVENT, spacing="linspace", scheduler="ddim")
    head = DiffusionHead(8, EVENT, spacing="linspace", depth=1)
    with pytest.raises(ValueError, match="ddim"):
        head.sample(Context(torch.zeros(1, 8)), 1, SampleOptions(solver="ddim", num_steps=10))


@pytest.mark.parametrize("tell", ["time", "timestep"])
def test_the_network_is_told_k_or_t(tell: Any) -> None:
    schedule = Schedule(train_timesteps=10, prediction="epsilon", tell=tell)
    told: list[float] = []

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        told.append(t.flatten()[0].item())
        return torch.zeros_like(z_t)

    denoise(denoiser, torch.zeros(1, 3), schedule, scheduler="ddpm", num_steps=5)
    assert told == pytest.approx([9, 7, 5, 3, 1] if tell == "timestep" else [0, 0.2, 0.4, 0.6, 0.8])
    assert schedule.time(torch.tensor([0, 9]), torch.float64).tolist() == (
        [0, 9] if tell == "timestep" else [0.9, 0.0]
    )


def test_the_head_with_a_learned_variance_trains_and_keeps_the_contract() -> None:
    options = {"depth": 1, "width": 16, "prediction": "epsilon", "variance": "learned", "tell": "timestep"}
    options |= {"spacing": "linspace", "scheduler": "ddpm", "num_steps": 5}
    check_head(DiffusionHead, **options)
    head = DiffusionHead(8, EVENT, **options)
    assert head.net.output.out_features == 6
    draws = head.sample(Context(torch.randn(4, 8)), 2, SampleOptions(solver="dpm++", num_steps=3))
    assert draws.shape == (2, 4, 3)
    target = Posterior(MEAN.expand(64, 3), STD.log().expand(64, 3))
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    losses = []
    for _ in range(120):
        loss = head.loss(Context(torch.ones(64, 8)), target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    assert alphas_cumprod(1000)[0] < 1
