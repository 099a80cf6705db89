"""The way back from noise to latents: `diffusers` schedulers behind one guarded function.

What the guard is for (measured on diffusers 0.42): the default `clip_sample=True` cuts latents at 1; DDIM
is wrong where the steps don't divide T; the trailing timesteps of DDPM and DPM-Solver hold one step too
many, at timestep -1, for 62 of the 1000 possible numbers of steps (61 is the first: `arange` by a
fraction); schedulers are stateful, so each run gets a fresh one; a schedule that ends in pure noise has no
epsilon to divide out.

Source: Ho et al., Denoising Diffusion Probabilistic Models, 2020. https://arxiv.org/abs/2006.11239
Song et al., Denoising Diffusion Implicit Models, 2020. https://arxiv.org/abs/2010.02502
Lu et al., DPM-Solver++, 2022. https://arxiv.org/abs/2211.01095
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.dynamics.ancestral import StepTable, posterior_coefficients
from calmkit.dynamics.paths import standard_noise
from calmkit.dynamics.schedules import Schedule, alphas_cumprod

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""`denoiser(z_t, t)` -> its prediction (noise or v) `[*, D]`, for `z_t` `[*, D]` and one time per row, `t`
`[*]`; where the variance is learned, `[*, 2 D]`: the prediction, then the share of `StepTable.log_variance`.
Within one call all times are equal (a view of one number), so a network may embed `t[..., :1]` alone."""


def denoise(
    denoiser: Denoiser,
    noise: Float[Tensor, "*rows D"],
    schedule: Schedule,
    *,
    scheduler: str = "dpm++",
    num_steps: int | None = None,  # DEFAULT_STEPS
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*rows D"]:
    """From noise to latents by a diffusers scheduler.

    Half precision is carried in float32 and cast back; dpm++ computes in float32 whatever comes.

    Args:
        denoiser: See `Denoiser`.
        schedule: That of training.
        scheduler: `"ddpm"` draws new noise at each step, `"ddim"` and `"dpm++"` are deterministic.
        temperature: Factor on the noise of each step of ddpm (as in MAR), on the first noise of the others.
        generator: Of the noise of ddpm's steps; None: torch's default.

    Raises:
        ValueError: As `Schedule.sampling_steps`.
    """
    num_steps = schedule.sampling_steps("denoise", scheduler, num_steps)
    z_t = noise.to(torch.promote_types(noise.dtype, torch.float32))
    if scheduler == "ddpm" and schedule.variance == "learned":
        return _denoise_with_learned_variance(denoiser, z_t, schedule, num_steps, temperature, generator).to(
            noise.dtype
        )
    stepper = make_scheduler(scheduler, schedule, num_steps)
    if scheduler != "ddpm":
        z_t = z_t * temperature
    # The tables stay on the CPU and k is a Python number: a scalar of the CPU meets a tensor of any device
    # without a wait for that device.
    for k in stepper.timesteps.tolist():
        prediction = denoiser(z_t, _told(schedule, k, z_t)).to(z_t.dtype)
        if schedule.variance == "learned":
            prediction = prediction.chunk(2, -1)[0]
        if scheduler == "ddpm":
            z_t = _ddpm_step(stepper, prediction, k, z_t, temperature, generator)
        else:
            z_t = stepper.step(prediction, k, z_t).prev_sample
    return z_t.to(noise.dtype)


def _told(schedule: Schedule, k: int, z_t: Tensor) -> Tensor:
    time = float(schedule.time(torch.tensor(k, device="cpu"), torch.float64))
    return z_t.new_full((1,), time).expand(z_t.shape[:-1])


def _denoise_with_learned_variance(
    denoiser: Denoiser,
    z_t: Tensor,
    schedule: Schedule,
    num_steps: int,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Ancestral steps of the chain that the timesteps alone make; none but the last is free of noise.

    diffusers has such a scheduler, but it gives the last step noise too where that doesn't start from k = 0.
    """
    timesteps = schedule.sampling_timesteps(num_steps)
    alpha_bar = alphas_cumprod(schedule.train_timesteps, schedule.zero_terminal_snr)[timesteps]
    table = StepTable.of(alpha_bar.flip(0)).to(z_t.dtype, torch.device("cpu"))
    levels = zip(alpha_bar.sqrt().to(z_t.dtype), (1 - alpha_bar).sqrt().to(z_t.dtype), strict=True)
    for left, (k, (alpha_t, sigma_t)) in enumerate(zip(timesteps, levels, strict=True), 1):
        prediction, share = denoiser(z_t, _told(schedule, k, z_t)).to(z_t.dtype).chunk(2, -1)
        step = table[num_steps - left]
        z_t = step.on_z * schedule.latent(prediction, z_t, alpha_t, sigma_t) + step.on_z_t * z_t
        if left < num_steps:
            noise = standard_noise(tuple(z_t.shape), z_t, generator)
            z_t = z_t + temperature * (step.log_variance(share) / 2).exp() * noise
    return z_t


def make_scheduler(name: str, schedule: Schedule, num_steps: int) -> Any:
    """A fresh diffusers scheduler, its timesteps set, without the defaults that ruin latents."""
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler  # seconds of import

    options: dict[str, Any] = {
        "num_train_timesteps": schedule.train_timesteps,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": {"epsilon": "epsilon", "v": "v_prediction"}[schedule.prediction],
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
        "thresholding": False,
    }
    if name == "ddim":  # its timesteps cannot be given, and are right wherever num_steps divides T
        scheduler: Any = DDIMScheduler(clip_sample=False, **options)
        scheduler.set_timesteps(num_steps)
        return scheduler
    if name == "ddpm":
        scheduler = DDPMScheduler(clip_sample=False, variance_type="fixed_small", **options)
    else:
        scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2, **options)
    with warnings.catch_warnings():
        # diffusers' DPM-Solver hands a tensor to np.array, which numpy 2 deprecates; the values are right
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept", DeprecationWarning)
        scheduler.set_timesteps(timesteps=schedule.sampling_timesteps(num_steps))
    return scheduler


def _ddpm_step(
    stepper: Any,
    prediction: Tensor,
    k: int,
    z_t: Tensor,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """One ancestral step; diffusers has no temperature, so its noise is told apart by the mean and scaled."""
    step = stepper.step(prediction, k, z_t, generator=generator)
    if temperature == 1:
        return step.prev_sample
    previous = int(stepper.previous_timestep(k))
    alpha_bar = stepper.alphas_cumprod[k]
    alpha_bar_previous = stepper.alphas_cumprod[previous] if previous >= 0 else torch.ones_like(alpha_bar)
    on_z, on_z_t, _ = posterior_coefficients(alpha_bar, alpha_bar_previous)
    mean = on_z * step.pred_original_sample + on_z_t * z_t
    return mean + temperature * (step.prev_sample - mean)
