"""Between noise and data: t = 0 is noise and t = 1 is data, here and everywhere in calmkit.

Two families. The straight line of rectified flow, z_t = (1 - t) noise + t z, and the variance-preserving
curve of diffusion, z_t = alpha_t z + sigma_t noise with alpha_t^2 + sigma_t^2 = 1.

Source: Liu et al., Flow Straight and Fast, 2022, Eq. 1. https://arxiv.org/abs/2209.03003
Salimans and Ho, Progressive Distillation for Fast Sampling of Diffusion Models, 2022, section 4 and
appendix D (v). https://arxiv.org/abs/2202.00512
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def standard_noise(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None
) -> Float[Tensor, "*rows D"]:
    """N(0, I) on the device of `like`, in its dtype but float32 at least.

    A generator of another device draws on its own: so one CPU generator gives the same noise everywhere.
    """
    device = like.device if generator is None else generator.device
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.randn(shape, dtype=dtype, device=device, generator=generator).to(like.device)


def linear_path(
    noise: Float[Tensor, "*rows D"], z: Float[Tensor, "*rows D"], t: Float[Tensor, "*#rows"]
) -> Float[Tensor, "*rows D"]:
    """z_t on the straight line from `noise` (t = 0) to `z` (t = 1), one time per row."""
    t = t[..., None]
    return (1 - t) * noise + t * z


def linear_velocity(noise: Float[Tensor, "*rows D"], z: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
    """d z_t / d t on the straight line: z - noise, whatever t. It points at the data."""
    return z - noise


def diffusion_path(
    noise: Float[Tensor, "*rows D"],
    z: Float[Tensor, "*rows D"],
    alpha_t: Float[Tensor, "*#rows"],
    sigma_t: Float[Tensor, "*#rows"],
) -> Float[Tensor, "*rows D"]:
    """z_t = alpha_t z + sigma_t noise, one level per row."""
    return alpha_t[..., None] * z + sigma_t[..., None] * noise


def diffusion_v(
    noise: Float[Tensor, "*rows D"],
    z: Float[Tensor, "*rows D"],
    alpha_t: Float[Tensor, "*#rows"],
    sigma_t: Float[Tensor, "*#rows"],
) -> Float[Tensor, "*rows D"]:
    """v = alpha_t noise - sigma_t z: z_t turned by a right angle, so z = alpha_t z_t - sigma_t v.

    It points at the noise, unlike `linear_velocity`: the sign is that of the literature and of diffusers.
    """
    return alpha_t[..., None] * noise - sigma_t[..., None] * z
