"""One step back from noise to data, and how wide it is: the posterior of a diffusion given its latent.

Source: Ho et al., Denoising Diffusion Probabilistic Models, 2020, Eq. 6-8. https://arxiv.org/abs/2006.11239
Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021, section 3.1 (learned variance).
https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor


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


@final
@dataclass(frozen=True)
class StepTable:
    """The steps of a chain of levels, the one nearest to the data first.

    Attributes:
        on_z: a of `posterior_coefficients`.
        on_z_t: b.
        log_least: Log of the posterior's variance, the least a step can have; the first step, whose posterior
            is a point, is given the second's (Ho et al.'s code, and all after it).
        log_most: Log of beta, the most it can have.
    """

    on_z: Float[Tensor, "*rows"]
    on_z_t: Float[Tensor, "*rows"]
    log_least: Float[Tensor, "*rows"]
    log_most: Float[Tensor, "*rows"]

    @classmethod
    def of(cls, alpha_bar: Float[Tensor, " steps"]) -> StepTable:
        """From the alpha_bar of each level, falling."""
        previous = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
        on_z, on_z_t, variance = posterior_coefficients(alpha_bar, previous)
        beta = 1 - alpha_bar / previous
        first = variance[1:2] if len(variance) > 1 else beta
        return cls(on_z, on_z_t, torch.cat([first, variance[1:]]).log(), beta.log())

    def to(self, dtype: torch.dtype, device: torch.device) -> StepTable:
        """Cast and moved."""
        columns = (self.on_z, self.on_z_t, self.log_least, self.log_most)
        return StepTable(*(column.to(dtype).to(device) for column in columns))

    def __getitem__(self, index: Tensor | int) -> StepTable:
        """Rows of the table."""
        return StepTable(self.on_z[index], self.on_z_t[index], self.log_least[index], self.log_most[index])

    def log_variance(self, share: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """Between the least (`share` -1) and the most (1): Nichol and Dhariwal, Eq. 15."""
        part = (share + 1) / 2
        return part * self.log_most[..., None] + (1 - part) * self.log_least[..., None]


def step_bits(
    z: Float[Tensor, "*rows D"],
    z_guess: Float[Tensor, "*rows D"],
    share: Float[Tensor, "*rows D"],
    step: StepTable,
    is_last: Tensor,
) -> Float[Tensor, "*rows"]:
    """What a step back costs, in bits per dimension: the term of its level in the variational bound.

    KL(q(z_previous | z_t, z) || N(a z_guess + b z_t, variance)); at the step onto the data, which has no such
    posterior, -log of a Gaussian's density at z, which may be negative. (The code of ADM, MAR and CALM has
    the probability of an 8-bit pixel there, which no latent is.)

    Args:
        z: The latent.
        z_guess: What the network thinks it is.
        share: See `StepTable.log_variance`.
        step: The row of each level.
        is_last: True where the step ends at the data.

    Source:
        Nichol and Dhariwal, 2021, Eq. 4-6.
    """
    log_variance, log_least = step.log_variance(share), step.log_least[..., None]
    misses = (step.on_z[..., None] * (z - z_guess)).square() * (-log_variance).exp()
    divergence = log_variance - log_least - 1 + (log_least - log_variance).exp() + misses
    surprise = math.log(2 * math.pi) + log_variance + misses  # a is 1 there
    nats = torch.where(is_last[..., None], surprise, divergence).mean(-1) / 2
    return nats / math.log(2)
