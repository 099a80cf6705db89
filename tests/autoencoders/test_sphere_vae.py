from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from calmkit.autoencoders.sphere_vae import SphereVAE, onto_sphere


def small(**settings: Any) -> SphereVAE:
    return SphereVAE(11, **{"chunk_size": 3, "latent_dim": 5, "hidden_dim": 8, **settings})


def test_all_means_have_the_norm_sqrt_d_whatever_the_encoder_says() -> None:
    data = torch.randint(11, (2, 4, 3))
    for factor in (1.0, 1e-3, 1e3):
        model = small(sigma=0.4)
        with torch.no_grad():
            model.net.encoder.out.weight.mul_(factor)
        posterior = model.encode(data)
        assert posterior.log_std is not None
        assert_close(posterior.mean.norm(dim=-1), torch.full((2, 4), math.sqrt(5)))
        assert_close(posterior.log_std.exp(), torch.full((2, 4, 5), 0.4))


def test_onto_the_sphere_by_hand() -> None:
    """(3, 4) has length 5 and D is 2: times sqrt(2) / 5. Zero has no direction and stays, without a NaN."""
    z = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    found = onto_sphere(z)
    assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 0.0]]) * math.sqrt(2))
    found.sum().backward()
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())


def test_decoding_does_not_depend_on_the_length_of_z_but_on_its_direction() -> None:
    """Whatever a head draws lies on the sphere before it is read; at radius sqrt(5) nothing happens to it."""
    model, z = small(), torch.randn(7, 5)
    torch.nn.init.normal_(model.net.decoder.into.bias)  # else the norm behind it would forget the length too
    assert_close(model.decode(z), model.net.logits(z / z.norm(dim=-1, keepdim=True) * math.sqrt(5)))
    assert not torch.allclose(model.decode(z), model.net.logits(z))
    for length in (1e-3, 7.0):
        assert_close(model.decode(length * z), model.decode(z))
        assert model.to_data(length * z).equal(model.to_data(z))
    assert not torch.allclose(model.decode(-z), model.decode(z))


def test_loss_reads_a_draw_of_the_set_width_from_the_sphere() -> None:
    """With means at (sqrt 2, 0) and D = 2 the angle of a draw is atan2(s e, sqrt 2 + s e').

    At s = 0.5 the mean of its cosine, by a sum over a fine grid of e and e', is what 40,000 draws have; the
    cosine's variance is below 1, so 6 standard errors are below .03 and fail with rate 2e-9.
    """
    model = small(latent_dim=2, sigma=0.5)
    torch.nn.init.zeros_(model.net.encoder.out.weight)
    model.net.encoder.out.bias.data = torch.tensor([3.0, 0.0])
    seen: list[torch.Tensor] = []
    model.net.decoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    model.eval().loss(torch.randint(11, (40, 1000, 3)))
    (z,) = seen
    assert_close(z.norm(dim=-1), torch.full((40, 1000), math.sqrt(2)))
    grid = torch.linspace(-6, 6, 601)
    weight = torch.exp(-grid.square() / 2)
    weight = weight[:, None] * weight / weight.sum() ** 2
    along, beside = math.sqrt(2) + 0.5 * grid[:, None], 0.5 * grid
    wanted = (weight * along / (along.square() + beside.square()).sqrt()).sum().item()
    assert (z[..., 0] / math.sqrt(2)).mean().item() == pytest.approx(wanted, abs=0.03)
    assert wanted < 0.95  # so that without noise, which gives 1, this fails


def test_loss_by_hand() -> None:
    """Zero embeddings give uniform logits: 3 ln 11 nats per chunk, and nothing else is in the loss. All means
    are one, so their resultant is 1.
    """
    model = small()
    torch.nn.init.zeros_(model.net.embedding.weight)
    torch.nn.init.ones_(model.net.encoder.out.bias)
    out = model.loss(torch.randint(11, (2, 4, 3)))
    assert_close(out.per_unit, torch.full((2, 4), 7.19368582), atol=1e-7, rtol=0)
    assert out.terms["resultant"].item() == pytest.approx(1)


def test_gradients_reach_the_encoder_across_the_sphere_and_never_along_its_radius() -> None:
    """The loss does not change with the length of what the encoder says, so it has no slope there."""
    model = small(token_dropout=0.0, latent_dropout=0.0)
    said: list[torch.Tensor] = []
    model.net.encoder.register_forward_hook(lambda module, args, out: said.append(out))
    loss = model.loss(torch.randint(11, (2, 4, 3))).per_unit.sum()
    (x,) = said
    (slope,) = torch.autograd.grad(loss, x)
    assert bool(slope.norm(dim=-1).gt(0).all())
    along = (slope * x).sum(-1) / slope.norm(dim=-1) / x.norm(dim=-1)
    assert_close(along, torch.zeros(2, 4), atol=1e-6, rtol=0)


def test_a_few_steps_learn_the_copy() -> None:
    """Ten chunks are told apart: every id comes back from the means, where chance is 1 in 11."""
    quiet = {"token_dropout": 0.0, "latent_dropout": 0.0, "sigma": 0.1}
    model, data = small(latent_dim=8, hidden_dim=16, **quiet), torch.randint(11, (1, 10, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(data).per_unit.mean().backward()
        optimizer.step()
    assert model.eval().to_data(model.encode(data).mean).equal(data)


@pytest.mark.parametrize(
    "settings", [{"sigma": 0.0}, {"latent_dim": 1}, {"latent_dropout": -0.1}, {"chunk_size": 0}]
)
def test_refuses_impossible_settings_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"sphere_vae: {name} .*got .*would do"):
        small(**settings)
