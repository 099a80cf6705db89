"""Noise levels of a diffusion, and the timesteps that its draws visit.

The cosine schedule. A timestep k counts noise, 0 (almost data) to T - 1 (almost noise), as in diffusers;
the network gets t = 1 - (k + 1) / T, which is 0 at the noise end and tends to 1 at the data, as everywhere
in calmkit, or k itself where it was trained so.

Source: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021, section 3.2 (cosine).
https://arxiv.org/abs/2102.09672
Ho et al., Denoising Diffusion Probabilistic Models, 2020. https://arxiv.org/abs/2006.11239
Song et al., Denoising Diffusion Implicit Models, 2020. https://arxiv.org/abs/2010.02502
Lu et al., DPM-Solver++, 2022. https://arxiv.org/abs/2211.01095
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from calmkit.dynamics.ancestral import StepTable

Prediction = Literal["epsilon", "v"]
Variance = Literal["fixed", "learned"]
Spacing = Literal["trailing", "linspace"]
Tell = Literal["time", "timestep"]
Scheduler = Literal["ddpm", "ddim", "dpm++"]

MAX_BETA = 0.999  # Nichol and Dhariwal, section 3.2; it acts at the last timestep alone
OFFSET = 0.008  # s of their Eq. 17
DEFAULT_STEPS = {"ddpm": 100, "ddim": 20, "dpm++": 20}  # ddpm as CALM's release; the others need fewer


@contextmanager
def _lasting() -> Iterator[None]:
    """A cached tensor must serve outside of inference mode too, and outside of modes without numbers."""
    with torch.inference_mode(False), _disable_current_modes():
        yield


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
    with _lasting():
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
        variance: Of ddpm's steps: the posterior's, or one that the network gives beside its prediction.
        tell: Whether the network gets t or k.
        spacing: Which timesteps fewer steps than T take: those that end T / steps above the data, or those
            that hold both ends.
    """

    train_timesteps: int = 1000
    prediction: Prediction = "v"
    zero_terminal_snr: bool = False
    variance: Variance = "fixed"
    tell: Tell = "time"
    spacing: Spacing = "trailing"

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
        """What the network is told: t = 1 - (k + 1) / T, or k."""
        if self.tell == "timestep":
            return timesteps.to(dtype)
        return (self.train_timesteps - 1 - timesteps).to(dtype) / self.train_timesteps

    def latent(
        self,
        prediction: Float[Tensor, "*rows D"],
        z_t: Float[Tensor, "*rows D"],
        alpha_t: Float[Tensor, "*#rows"],
        sigma_t: Float[Tensor, "*#rows"],
    ) -> Float[Tensor, "*rows D"]:
        """The latent that a prediction stands for."""
        if self.prediction == "v":
            return alpha_t[..., None] * z_t - sigma_t[..., None] * prediction
        return (z_t - sigma_t[..., None] * prediction) / alpha_t[..., None]

    def steps(self, timesteps: Int[Tensor, "*rows"], dtype: torch.dtype) -> StepTable:
        """The step from each timestep to the one below it."""
        return _steps(self.train_timesteps, self.zero_terminal_snr, dtype, timesteps.device)[timesteps]

    def sampling_timesteps(self, num_steps: int) -> list[int]:
        """The timesteps of a run, falling."""
        choose = trailing_timesteps if self.spacing == "trailing" else linspace_timesteps
        return choose(self.train_timesteps, num_steps)

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
        if scheduler == "ddim" and self.spacing != "trailing":
            raise ValueError(
                f"{who}: scheduler 'ddim' got spacing '{self.spacing}', which diffusers' DDIM does not walk; "
                "spacing 'trailing', or scheduler 'ddpm' or 'dpm++', would do."
            )
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
    with _lasting():
        alpha_bar = alphas_cumprod(train_timesteps, zero_terminal_snr)  # the roots are taken in float64
        return alpha_bar.sqrt().to(dtype).to(device), (1 - alpha_bar).sqrt().to(dtype).to(device)


@functools.lru_cache(maxsize=16)
def _steps(
    train_timesteps: int, zero_terminal_snr: bool, dtype: torch.dtype, device: torch.device
) -> StepTable:
    with _lasting():
        return StepTable.of(alphas_cumprod(train_timesteps, zero_terminal_snr)).to(dtype, device)


def linspace_timesteps(train_timesteps: int, num_steps: int) -> list[int]:
    """`num_steps` timesteps from T - 1 to 0, both held, evenly but for rounding.

    Those of the released code, number by number: its stride is a fraction that it adds up, which decides ties
    (21 of 1000 hold 499, not 500). One step takes T - 1, where the noise is; theirs takes 0.

    Source:
        Nichol and Dhariwal, 2021, section 4 (`space_timesteps` of their code, which ADM, MAR and CALM keep).
        https://arxiv.org/abs/2102.09672
    """
    if num_steps == 1:
        return [train_timesteps - 1]
    stride = (train_timesteps - 1) / (num_steps - 1)
    sums = itertools.accumulate(itertools.repeat(stride, num_steps - 1), initial=0.0)
    return [round(at) for at in sums][::-1]


def trailing_timesteps(train_timesteps: int, num_steps: int) -> list[int]:
    """`num_steps` timesteps from T - 1 down, evenly, the last one T / num_steps above the data.

    In whole numbers: diffusers steps by a fraction, and rounding then gives some runs a step too many, at -1.

    Source:
        Lin et al., 2023, Table 2 ('trailing'). https://arxiv.org/abs/2305.08891
    """
    return [
        (2 * train_timesteps * left + num_steps) // (2 * num_steps) - 1 for left in range(num_steps, 0, -1)
    ]
