from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from calmkit.dynamics.ancestral import posterior_coefficients
from calmkit.dynamics.denoise import Denoiser, denoise, make_scheduler
from calmkit.dynamics.paths import diffusion_path, diffusion_v
from calmkit.dynamics.schedules import (
    DEFAULT_STEPS,
    Schedule,
    alphas_cumprod,
    trailing_timesteps,
)

MEAN, STD = torch.tensor([2.0, -1.0, 0.0, 3.0]).double(), torch.tensor([0.5, 1.0, 2.0, 0.1]).double()
EPSILON, V = Schedule(prediction="epsilon"), Schedule(prediction="v")
both = pytest.mark.parametrize("schedule", [EPSILON, V], ids=["epsilon", "v"])
every = pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++"])


def gaussian(schedule: Schedule, std: Tensor = STD) -> Denoiser:
    """The best denoiser for latents N(MEAN, std^2): linear in z_t."""

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        timesteps = (schedule.train_timesteps * (1 - t) - 1).round().long()
        a, s = (level[..., None] for level in schedule.levels(timesteps, torch.float64))
        both = a**2 * std**2 + s**2
        epsilon = s * (z_t - a * MEAN) / both
        z = (s**2 * MEAN + a * std**2 * z_t) / both
        return epsilon if schedule.prediction == "epsilon" else a * epsilon - s * z

    return denoiser


def test_d2_cosine_table_and_floor_by_hand() -> None:
    alpha_bar = alphas_cumprod(1000)
    assert alpha_bar.shape == (1000,)
    assert alpha_bar.dtype == torch.float64
    assert alpha_bar[0].item() == pytest.approx(0.99995872, abs=5e-9)
    assert alpha_bar[499].item() == pytest.approx(0.49384359, abs=5e-9)
    assert alpha_bar[999].item() == pytest.approx(2.429e-9, rel=5e-4)
    for std, floor in (
        (1.0, 0.495578),
        (0.5, 0.327653),
    ):  # what the best epsilon is left with, mean over timesteps
        left = alpha_bar * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        assert left.mean().item() == pytest.approx(floor, abs=5e-7)


def test_the_table_of_training_is_that_of_sampling() -> None:
    for name in ("ddpm", "ddim", "dpm++"):
        theirs = make_scheduler(name, V, 20).alphas_cumprod.double()
        torch.testing.assert_close(alphas_cumprod(1000), theirs, rtol=2e-4, atol=1e-7)  # theirs are float32


def test_d4_zero_terminal_snr() -> None:
    rescaled = alphas_cumprod(1000, zero_terminal_snr=True)
    assert rescaled[-1] == 0
    assert rescaled[0].item() == pytest.approx(alphas_cumprod(1000)[0].item(), rel=1e-12)
    schedule = Schedule(zero_terminal_snr=True)
    torch.testing.assert_close(
        rescaled, make_scheduler("ddpm", schedule, 20).alphas_cumprod.double(), rtol=2e-4, atol=1e-6
    )
    with pytest.raises(
        ValueError, match=r"zero_terminal_snr got prediction 'epsilon'.*prediction 'v' would do"
    ):
        Schedule(prediction="epsilon", zero_terminal_snr=True)


@every
def test_d4_zero_terminal_snr_samples(scheduler: str) -> None:
    schedule = Schedule(zero_terminal_snr=True)
    z = denoise(
        gaussian(schedule), torch.zeros(1, 4), schedule, scheduler=scheduler, num_steps=50, temperature=0.0
    )
    torch.testing.assert_close(z[0], MEAN, rtol=0, atol=1e-3)


def test_noise_and_v_agree_with_diffusers() -> None:
    stepper = make_scheduler("ddpm", V, 20)
    z, noise = torch.randn(6, 3), torch.randn(6, 3)
    timesteps = torch.tensor([0, 1, 250, 500, 998, 999])
    levels = V.levels(timesteps, torch.float64)
    close = {"rtol": 0, "atol": 1e-5}  # theirs are float32 tables
    torch.testing.assert_close(
        diffusion_path(noise, z, *levels), stepper.add_noise(z, noise, timesteps), **close
    )
    torch.testing.assert_close(
        diffusion_v(noise, z, *levels), stepper.get_velocity(z, noise, timesteps), **close
    )


def test_levels_and_time() -> None:
    timesteps = torch.tensor([[0, 249], [499, 999]])
    alpha_t, sigma_t = V.levels(timesteps, torch.float64)
    torch.testing.assert_close(alpha_t**2 + sigma_t**2, torch.ones(2, 2))
    assert alpha_t[1, 0].item() ** 2 == pytest.approx(0.49384359, abs=5e-9)
    assert V.time(timesteps, torch.float64).tolist() == [[0.999, 0.75], [0.5, 0.0]]
    assert V.levels(timesteps, torch.float32)[0].dtype == torch.float32


def test_levels_first_asked_for_in_inference_mode_serve_in_training() -> None:
    schedule = Schedule(train_timesteps=37)
    with torch.inference_mode():
        schedule.levels(torch.tensor([3]), torch.float64)
    weight = torch.ones(1, requires_grad=True)
    (weight * schedule.levels(torch.tensor([3]), torch.float64)[0]).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("what", "expected"), [("epsilon", 0.128027682), ("z", 0.217993080), ("v", 0.346020761)]
)
def test_d1_what_the_best_denoiser_is_left_with(what: str, expected: float) -> None:
    """alpha_bar 0.37, latent N(m, 0.5^2): the error is linear in the two unit normals behind z_t.

    It is the best one: its error is uncorrelated with z_t. With q = alpha_bar s^2 + 1 - alpha_bar what is
    left is alpha_bar s^2 / q (epsilon), (1 - alpha_bar) s^2 / q (z) and s^2 / q (v).
    """
    a, s, std, mean = 0.37**0.5, 0.63**0.5, 0.5, 2.0
    q = a**2 * std**2 + s**2
    assert {"epsilon": 0.37, "z": 0.63, "v": 1.0}[what] * std**2 / q == pytest.approx(expected, abs=5e-10)

    def left(unit: float, noise: float) -> float:
        z = mean + std * unit
        z_t = a * z + s * noise
        epsilon_error = s * (z_t - a * mean) / q - noise
        z_error = (s**2 * mean + a * std**2 * z_t) / q - z
        return {"epsilon": epsilon_error, "z": z_error, "v": a * epsilon_error - s * z_error}[what]

    assert left(0, 0) == pytest.approx(0, abs=1e-15)
    assert left(1, 0) ** 2 + left(0, 1) ** 2 == pytest.approx(expected, abs=1e-9)
    assert left(1, 0) * a * std + left(0, 1) * s == pytest.approx(0, abs=1e-15)  # covariance with z_t


def test_d6_posterior_carries_a_standard_normal_to_a_standard_normal() -> None:
    table = torch.cat([torch.ones(1), alphas_cumprod(1000)])
    later, earlier = table[[1, 10, 500, 1000, 1000]], table[[0, 3, 250, 900, 999]]
    on_z, on_z_t, variance = posterior_coefficients(later, earlier)
    # latent N(0, 1): z and z_t have variance 1 and covariance alpha_t
    torch.testing.assert_close(
        on_z**2 + on_z_t**2 + 2 * on_z * on_z_t * later.sqrt() + variance, torch.ones(5)
    )
    torch.testing.assert_close(on_z + on_z_t * later.sqrt(), earlier.sqrt())  # the mean is carried along
    assert on_z[0] == 1  # the last step gives the predicted latent
    assert variance[0] == 0


def test_trailing_timesteps() -> None:
    assert trailing_timesteps(1000, 4) == [999, 749, 499, 249]
    assert trailing_timesteps(10, 3) == [9, 6, 2]  # 10, 6.67, 3.33, rounded, less 1
    for num_steps in range(1, 1001):
        steps = trailing_timesteps(1000, num_steps)
        assert len(steps) == num_steps
        assert steps[0] == 999
        assert steps[-1] >= 0
        assert all(a > b for a, b in itertools.pairwise(steps))


@every
@pytest.mark.parametrize("num_steps", [1, 4, 61, 1000])  # 61: diffusers' own list has 62, the last of them -1
def test_steps_asked_are_steps_made_and_the_network_is_told_the_time(scheduler: str, num_steps: int) -> None:
    if scheduler == "ddim" and 1000 % num_steps:
        pytest.skip("refused")
    seen: list[Tensor] = []

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return torch.zeros_like(z_t)

    denoise(denoiser, torch.randn(3, 2, 4), V, scheduler=scheduler, num_steps=num_steps)
    assert {t.shape for t in seen} == {(3, 2)}
    times = [t[0, 0].item() for t in seen]
    assert times == [pytest.approx(1 - (k + 1) / 1000) for k in trailing_timesteps(1000, num_steps)]
    if num_steps == 4:
        assert times == [0, 0.25, 0.5, 0.75]


# Slopes at the given number of steps. They fall short of STD by the scheduler's own error, as measured on
# diffusers alone (ddim, 25: 0.474 and 0.075; dpm++, 20: 0.503 and 0.074), and tend to it.
@both
@pytest.mark.parametrize(
    ("scheduler", "num_steps", "expected", "bound"),
    [
        ("ddim", 25, (0.474, 0.95, 1.88, 0.075), 0.006),
        ("ddim", 1000, (0.5, 1.0, 2.0, 0.1), 0.004),
        ("dpm++", 20, (0.503, 1.0, 1.95, 0.074), 0.006),
        ("dpm++", 100, (0.5, 1.0, 2.0, 0.1), 0.004),
    ],
)
def test_deterministic_schedulers_carry_noise_to_the_gaussian(
    schedule: Schedule, scheduler: str, num_steps: int, expected: tuple[float, ...], bound: float
) -> None:
    ends = torch.stack([torch.zeros(4), torch.ones(4)])  # the map is affine: two points tell it
    mean, one = denoise(gaussian(schedule), ends, schedule, scheduler=scheduler, num_steps=num_steps)
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=2e-3)  # clip_sample would give at most 1
    torch.testing.assert_close(one - mean, torch.tensor(expected), rtol=0, atol=bound)


@both
@pytest.mark.parametrize("num_steps", [30, 61, 100])
def test_ddpm_draws_from_the_gaussian(schedule: Schedule, num_steps: int) -> None:
    num = 4000
    z = denoise(gaussian(schedule), torch.randn(num, 4), schedule, scheduler="ddpm", num_steps=num_steps)
    # 6 runs of 4 means and 8 bounds on a std of normal draws: 6 sigma each is a false alarm in 1e-7 of all
    assert ((z.mean(0) - MEAN).abs() < 6 * STD / num**0.5 + 1e-3).all()
    slack = 6 / (2 * num) ** 0.5
    assert (z.std(0) / STD < 1 + slack).all()
    if num_steps == 100:  # where diffusers, measured elsewhere, reaches 0.483 and 0.087
        reached = z.std(0) / torch.tensor([0.483, 0.98, 1.965, 0.087])
        assert ((reached - 1).abs() < slack + 0.01).all()


@both
@pytest.mark.parametrize("num_steps", [2, 5, 40, 1000])
def test_d3_ddim_is_exact_for_a_point_in_any_number_of_steps(schedule: Schedule, num_steps: int) -> None:
    point = gaussian(schedule, torch.zeros(4).double())
    z = denoise(point, torch.randn(5, 4), schedule, scheduler="ddim", num_steps=num_steps)
    torch.testing.assert_close(z, MEAN.expand(5, 4), rtol=0, atol=1e-4)  # diffusers' tables are float32


@pytest.mark.parametrize("num_steps", [3, 30, 400])
def test_ddim_refuses_steps_that_do_not_divide(num_steps: int) -> None:
    with pytest.raises(
        ValueError, match=rf"denoise: num_steps of scheduler 'ddim' must divide.* 1000.*got {num_steps};"
    ):
        denoise(gaussian(V), torch.randn(1, 4), V, scheduler="ddim", num_steps=num_steps)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="25 would do"):
        V.sampling_steps("x", "ddim", 30)
    with pytest.raises(ValueError, match="x: scheduler 'euler' is not known; one of ddpm, ddim, dpm"):
        V.sampling_steps("x", "euler", 10)
    for num_steps in (0, 1001):
        with pytest.raises(ValueError, match=f"at most train_timesteps 1000, got {num_steps}"):
            V.sampling_steps("x", "ddpm", num_steps)
    with pytest.raises(ValueError, match="train_timesteps must be at least 2, got 1"):
        Schedule(train_timesteps=1)
    assert {name: V.sampling_steps("x", name, None) for name in DEFAULT_STEPS} == DEFAULT_STEPS


@every
def test_runs_do_not_disturb_each_other_and_follow_their_seed(scheduler: str) -> None:
    noise = torch.randn(3, 4)

    def run(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return denoise(gaussian(V), noise, V, scheduler=scheduler, num_steps=20, generator=generator)

    state = torch.get_rng_state()
    first = run(1)
    assert torch.equal(run(1), first)  # multistep schedulers keep state between steps: not between runs
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(run(2), first) == (scheduler != "ddpm")
    torch.manual_seed(1)
    assert torch.equal(
        denoise(gaussian(V), noise, V, scheduler=scheduler, num_steps=20), first
    )  # the default's turn


@every
def test_any_leading_dimensions(scheduler: str) -> None:
    noise = torch.randn(2, 3, 5, 4)
    run = {"scheduler": scheduler, "num_steps": 10, "temperature": 0.5}
    torch.manual_seed(1)
    z = denoise(gaussian(V), noise, V, **run)
    torch.manual_seed(1)
    torch.testing.assert_close(z, denoise(gaussian(V), noise.reshape(30, 4), V, **run).reshape(2, 3, 5, 4))
    assert denoise(gaussian(V), noise[:0], V, **run).shape == (0, 3, 5, 4)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_temperature_scales_the_first_noise_of_deterministic_schedulers(scheduler: str) -> None:
    noise = torch.randn(3, 4)
    cold = denoise(gaussian(V), noise, V, scheduler=scheduler, temperature=0.3)
    torch.testing.assert_close(cold, denoise(gaussian(V), 0.3 * noise, V, scheduler=scheduler))


@both
def test_temperature_scales_the_noise_of_each_step_of_ddpm(schedule: Schedule) -> None:
    noise = torch.randn(3, 4)

    def run(temperature: float) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return denoise(
            gaussian(schedule),
            noise,
            schedule,
            scheduler="ddpm",
            temperature=temperature,
            generator=generator,
        )

    # with a linear denoiser the end is linear in the noise of the steps
    still, warm, half = run(0.0), run(1.0), run(0.5)
    torch.testing.assert_close(half, (still + warm) / 2, rtol=0, atol=1e-5)
    assert ((still - MEAN).abs() < 0.05 * STD.clamp(min=0.2)).all()  # the first noise is nearly forgotten
    assert ((warm - still).abs() > 1e-3).all()


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_out_is_dtype_in_and_half_precision_is_carried_in_float32(
    scheduler: str, dtype: torch.dtype
) -> None:
    seen = set()

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        seen.update((z_t.dtype, t.dtype))
        return gaussian(V)(z_t, t).to(dtype)

    z = denoise(denoiser, torch.zeros(2, 4, dtype=dtype), V, scheduler=scheduler, temperature=1e-3)
    assert z.dtype == dtype
    assert seen == {torch.promote_types(dtype, torch.float32)}
    torch.testing.assert_close(z.double(), MEAN.expand(2, 4), rtol=0, atol=0.03)


@every
def test_epsilon_magnifies_the_error_of_a_network_and_v_does_not(scheduler: str) -> None:
    """Why v is the default: one step from pure noise takes the error times sigma / alpha, or times sigma."""

    def off(schedule: Schedule) -> float:
        exact, run = gaussian(schedule), {"scheduler": scheduler, "num_steps": 1, "temperature": 0.0}
        wrong = denoise(lambda z_t, t: exact(z_t, t) + 0.01, torch.zeros(1, 4), schedule, **run)
        return (wrong - denoise(exact, torch.zeros(1, 4), schedule, **run)).abs().max().item()

    assert off(V) == pytest.approx(0.01, rel=1e-3)
    assert off(EPSILON) == pytest.approx(0.01 / 2.429e-9**0.5, rel=1e-2)  # 203
