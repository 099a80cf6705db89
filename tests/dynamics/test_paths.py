from __future__ import annotations

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


def test_velocity_is_the_derivative_of_the_path_and_gives_both_ends_back() -> None:
    noise, z, t = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5)
    z_t, velocity = linear_path(noise, z, t), linear_velocity(noise, z)
    moved = linear_path(noise, z, t + 1e-3)
    torch.testing.assert_close((moved - z_t) / 1e-3, velocity, rtol=1e-9, atol=1e-9)
    t = t[:, None]
    torch.testing.assert_close(z_t + (1 - t) * velocity, z)
    torch.testing.assert_close(z_t - t * velocity, noise)
    # score of N(t z, (1 - t)^2), whose mean z_t - (1 - t) noise gives -noise / (1 - t)
    torch.testing.assert_close((t * velocity - z_t) / (1 - t), -noise / (1 - t))


def test_v_and_the_noisy_latent_are_the_latent_and_the_noise_turned_by_one_angle() -> None:
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
