from __future__ import annotations

import pytest
import torch

from calmkit.dynamics.paths import (
    diffusion_path,
    diffusion_v,
    linear_path,
    linear_velocity,
    standard_noise,
)


def test_t_0_is_noise_and_t_1_is_data() -> None:
    noise, z = torch.tensor([[4.0], [4.0], [4.0]]), torch.tensor([[8.0], [8.0], [8.0]])
    assert linear_path(noise, z, torch.tensor([0.0, 0.25, 1.0])).tolist() == [[4.0], [5.0], [8.0]]
    assert linear_velocity(noise, z).tolist() == [[4.0]] * 3


def test_f5_velocity_gives_both_ends_and_the_score() -> None:
    """z = z_t + (1 - t) v, noise = z_t - t v, score = (t v - z_t) / (1 - t); v is the path's derivative."""
    noise, z, t = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5)
    z_t, velocity = linear_path(noise, z, t), linear_velocity(noise, z)
    moved = linear_path(noise, z, t + 1e-3)
    torch.testing.assert_close((moved - z_t) / 1e-3, velocity, rtol=1e-9, atol=1e-9)
    t = t[:, None]
    torch.testing.assert_close(z_t + (1 - t) * velocity, z)
    torch.testing.assert_close(z_t - t * velocity, noise)
    # score of N(t z, (1 - t)^2), whose mean z_t - (1 - t) noise gives -noise / (1 - t)
    torch.testing.assert_close((t * velocity - z_t) / (1 - t), -noise / (1 - t))


@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_f3_variance_left_at_each_time_and_its_mean_over_times(std: float) -> None:
    """A latent N(m, s^2): at time t the velocity keeps a variance of s^2 / (t^2 s^2 + (1 - t)^2) given z_t.

    The error of the best field is linear in the two unit normals behind z_t, so two points tell its variance;
    that it is the best shows in that it is orthogonal to z_t. Over uniform times the mean is pi s / 2.
    """
    mean, t = 2.0, (torch.arange(100_000) + 0.5) / 100_000
    variance = t**2 * std**2 + (1 - t) ** 2  # of z_t

    def error(unit: float, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
        z, noise = (torch.full((len(t), 1), value) for value in (mean + std * unit, noise))
        z_t = linear_path(noise, z, t)
        best = mean + ((t * std**2 - (1 - t)) / variance)[:, None] * (z_t - mean * t[:, None])
        return (best - linear_velocity(noise, z))[:, 0], z_t[:, 0] - mean * t

    (by_unit, z_by_unit), (by_noise, z_by_noise) = error(1.0, 0.0), error(0.0, 1.0)
    torch.testing.assert_close(error(0.0, 0.0)[0], torch.zeros(len(t)), rtol=0, atol=1e-12)
    torch.testing.assert_close(by_unit**2 + by_noise**2, std**2 / variance)
    torch.testing.assert_close(by_unit * z_by_unit, -by_noise * z_by_noise, rtol=0, atol=1e-12)
    assert (by_unit**2 + by_noise**2).mean().item() == pytest.approx(torch.pi * std / 2, abs=1e-8)


def test_d0_identities_of_v() -> None:
    """v = alpha_t noise - sigma_t z, z = alpha_t z_t - sigma_t v, noise = sigma_t z_t + alpha_t v.

    That is: v and z_t are the noise and the latent, turned by one angle.
    """
    noise, z, angle = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.rand(2, 5)
    a, s = angle.cos(), angle.sin()
    z_t, v = diffusion_path(noise, z, a, s), diffusion_v(noise, z, a, s)
    a, s = a[..., None], s[..., None]
    torch.testing.assert_close(a * z_t - s * v, z)
    torch.testing.assert_close(s * z_t + a * v, noise)
    torch.testing.assert_close(v, a * noise - s * z)


def test_standard_noise_follows_its_like_and_its_generator() -> None:
    half = torch.zeros(1, dtype=torch.bfloat16)
    state = torch.get_rng_state()
    draw = standard_noise((2, 3), half, torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), state)  # the default generator is left alone
    assert draw.dtype == torch.float32
    assert torch.equal(draw, standard_noise((2, 3), half, torch.Generator().manual_seed(5)))
    assert standard_noise((2, 3), torch.zeros(1)).dtype == torch.float64
    assert not torch.equal(torch.get_rng_state(), state)
