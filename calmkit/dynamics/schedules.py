"""Noise levels of a diffusion, and the way back from noise to data: `diffusers` schedulers behind one
guarded function.

The cosine schedule. A timestep k counts noise, 0 (almost data) to T - 1 (almost noise), as in diffusers;
the network gets t = 1 - (k + 1) / T, which is 0 at the noise end and tends to 1 at the data, as everywhere
in calmkit.

What the guard is for (measured on diffusers 0.42): the default `clip_sample=True` cuts latents at 1; DDIM
is wrong where the steps don't divide T; the trailing timesteps of DDPM and DPM-Solver hold one step too
many, at timestep -1, for 62 of the 1000 possible numbers of steps (61 is the first: `arange` by a
fraction); schedulers are stateful, so each run gets a fresh one; a schedule that ends in pure noise has no
epsilon to divide out.

Source: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021, section 3.2 (cosine).
https://arxiv.org/abs/2102.09672
Ho et al., Denoising Diffusion Probabilistic Models, 2020. https://arxiv.org/abs/2006.11239
Song et al., Denoising Diffusion Implicit Models, 2020. https://arxiv.org/abs/2010.02502
Lu et al., DPM-Solver++, 2022. https://arxiv.org/abs/2211.01095
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

Prediction = Literal["epsilon", "v"]
Scheduler = Literal["ddpm", "ddim", "dpm++"]
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""`denoiser(z_t, t)` -> its prediction (noise or v) `[*, D]`, for `z_t` `[*, D]` and one time per row, `t`
`[*]`; within one call all of them are equal (a view of one number), so a network may embed `t[..., :1]`
alone."""

MAX_BETA = 0.999  # Nichol and Dhariwal, section 3.2; it acts at the last timestep alone
OFFSET = 0.008  # s of their Eq. 17
DEFAULT_STEPS = {"ddpm": 100, "ddim": 20, "dpm++": 20}  # ddpm as CALM's release; the others need fewer


@functools.lru_cache(maxsize=16)
def alphas_cumprod(train_timesteps: int, zero_terminal_snr: bool = False) -> Float[Tensor, " T"]:
    """alpha_bar, the squared factor on the latent, of timesteps 0 to T - 1, falling: float64, on the CPU.

    Args:
        train_timesteps: T.
        zero_terminal_snr: Shift and scale its root so that the last is exactly 0 and the first stays.

    Source:
        Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, 2023, Algorithm 1 (zero
        terminal SNR). https://arxiv.org/abs/2305.08891
    """
    with torch.inference_mode(False):  # a cached tensor must serve outside of inference mode too
        time = torch.arange(train_timesteps + 1, dtype=torch.float64, device="cpu") / train_timesteps
        level = ((time + OFFSET) / (1 + OFFSET) * math.pi / 2).cos().square()
        alpha_bar = torch.cumprod(1 - (1 - level[1:] / level[:-1]).clamp(max=MAX_BETA), 0)
        if zero_terminal_snr:
            root = alpha_bar.sqrt()
            alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
        return alpha_bar


@dataclass(frozen=True)
class Schedule:
    """What a diffusion is trained on, and what its sampling must agree with.

    Attributes:
        train_timesteps: T.
        prediction: What the network gives: the noise, or v = alpha_t noise - sigma_t z.
        zero_terminal_snr: End in pure noise; only with v. `dpm++` keeps a last alpha_bar of 2^-24 even so.
    """

    train_timesteps: int = 1000
    prediction: Prediction = "v"
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        """Refuse fewer than two timesteps, and epsilon where the last one holds no trace of the latent."""
        if self.train_timesteps < 2:
            raise ValueError(f"diffusion: train_timesteps must be at least 2, got {self.train_timesteps}.")
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "diffusion: zero_terminal_snr got prediction 'epsilon', from which the latent cannot be had "
                "at pure noise (a division by 0); prediction 'v' would do."
            )

    def levels(
        self, timesteps: Int[Tensor, "*rows"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
        """alpha_t and sigma_t, the factors on the latent and on the noise."""
        tables = _roots(self.train_timesteps, self.zero_terminal_snr, dtype, timesteps.device)
        return tables[0][timesteps], tables[1][timesteps]

    def time(self, timesteps: Int[Tensor, "*rows"], dtype: torch.dtype) -> Float[Tensor, "*rows"]:
        """t = 1 - (k + 1) / T: what the network is told."""
        return (self.train_timesteps - 1 - timesteps).to(dtype) / self.train_timesteps

    def sampling_steps(self, who: str, scheduler: str, num_steps: int | None) -> int:
        """Steps, and network calls, of a run; None asks for the scheduler's usual number.

        Raises:
            ValueError: For an unknown scheduler or a number of steps that it cannot do; it begins with `who`.
        """
        if scheduler not in get_args(Scheduler):
            known = ", ".join(get_args(Scheduler))
            raise ValueError(f"{who}: scheduler '{scheduler}' is not known; one of {known} would do.")
        steps = DEFAULT_STEPS[scheduler] if num_steps is None else num_steps
        if not 1 <= steps <= self.train_timesteps:
            most = f"at most train_timesteps {self.train_timesteps}"
            raise ValueError(f"{who}: num_steps must be at least 1 and {most}, got {steps}.")
        if scheduler == "ddim" and self.train_timesteps % steps:
            near = max(n for n in range(1, steps) if self.train_timesteps % n == 0)
            raise ValueError(
                f"{who}: num_steps of scheduler 'ddim' must divide train_timesteps {self.train_timesteps}, "
                f"else diffusers' DDIM walks wrong noise levels; got {steps}; {near} would do."
            )
        return steps


@functools.lru_cache(maxsize=16)
def _roots(
    train_timesteps: int, zero_terminal_snr: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t of all timesteps, kept on the device: a copy in each training step would wait."""
    with torch.inference_mode(False):
        alpha_bar = alphas_cumprod(train_timesteps, zero_terminal_snr)  # the roots are taken in float64
        return alpha_bar.sqrt().to(dtype).to(device), (1 - alpha_bar).sqrt().to(dtype).to(device)


def trailing_timesteps(train_timesteps: int, num_steps: int) -> list[int]:
    """`num_steps` timesteps from T - 1 down, evenly, the last one T / num_steps above the data.

    In whole numbers: diffusers steps by a fraction, and rounding then gives some runs a step too many, at -1.

    Source:
        Lin et al., 2023, Table 2 ('trailing'). https://arxiv.org/abs/2305.08891
    """
    return [
        (2 * train_timesteps * left + num_steps) // (2 * num_steps) - 1 for left in range(num_steps, 0, -1)
    ]


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
    stepper = make_scheduler(scheduler, schedule, num_steps)
    z_t = noise.to(torch.promote_types(noise.dtype, torch.float32))
    if scheduler != "ddpm":
        z_t = z_t * temperature
    # The tables stay on the CPU and k is a Python number: a scalar of the CPU meets a tensor of any device
    # without a wait for that device.
    for k in stepper.timesteps.tolist():
        t = z_t.new_full((1,), (schedule.train_timesteps - 1 - k) / schedule.train_timesteps)
        prediction = denoiser(z_t, t.expand(z_t.shape[:-1])).to(z_t.dtype)
        if scheduler == "ddpm":
            z_t = _ddpm_step(stepper, prediction, k, z_t, temperature, generator)
        else:
            z_t = stepper.step(prediction, k, z_t).prev_sample
    return z_t.to(noise.dtype)


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
        scheduler.set_timesteps(timesteps=trailing_timesteps(schedule.train_timesteps, num_steps))
    return scheduler


def posterior_coefficients(
    alpha_bar: Float[Tensor, "*rows"], alpha_bar_previous: Float[Tensor, "*rows"]
) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
    """q(z_previous | z_t, z) = N(a z + b z_t, variance): a, b and the variance (Ho et al., Eq. 7).

    Args:
        alpha_bar: Of z_t.
        alpha_bar_previous: Of the less noisy side; 1 for the data.
    """
    kept = alpha_bar / alpha_bar_previous
    on_z = alpha_bar_previous.sqrt() * (1 - kept) / (1 - alpha_bar)
    on_z_t = kept.sqrt() * (1 - alpha_bar_previous) / (1 - alpha_bar)
    return on_z, on_z_t, (1 - kept) * (1 - alpha_bar_previous) / (1 - alpha_bar)


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
