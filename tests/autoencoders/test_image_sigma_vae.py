from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from calmkit.autoencoders.image_sigma_vae import ImageSigmaVAE


def small(**settings: Any) -> ImageSigmaVAE:
    sizes = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "attention": False, "latent_dim": 2}
    return ImageSigmaVAE((1, 4, 4), **{**sizes, **settings})


def constant(model: ImageSigmaVAE, mean: float, image: float = 0.0) -> None:
    encoder, decoder = model.net.encoder[-1], model.net.decoder[-1].conv
    for layer, value in ((encoder, mean), (decoder, image)):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, value)


def test_posterior_by_hand() -> None:
    """Means of .4 and sigma .3: E x^2 = .25, where the scale stays at .5; z has mean .8 and width .6."""
    model, data = small(sigma=0.3), torch.zeros(2, 1, 4, 4)
    constant(model, 0.4)
    model.scale.fill_(0.5)
    model.loss(data)
    assert model.scale.item() == pytest.approx(0.5)
    posterior = model.encode(data)
    assert posterior.log_std is not None
    assert_close(posterior.mean, torch.full((2, 4, 2), 0.8))
    assert_close(posterior.log_std.exp(), torch.full((2, 4, 2), 0.6))


def test_loss_by_hand() -> None:
    """Means of .6 in two dimensions: KL .36 per unit. 16 pixels at their place cost -1.383646 each."""
    model = small(kl_weight=0.5)
    constant(model, 0.6, 0.2)
    output = model.loss(torch.full((3, 1, 4, 4), 0.2))
    assert_close(output.per_unit, torch.full((3, 4), 4 * -1.383646 + 0.18), atol=1e-5, rtol=0)
    assert output.terms["kl"].item() == pytest.approx(0.36)
    assert output.terms["rms"].item() == pytest.approx(0.6)


def test_the_width_is_one_number_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the decoder, divided by the noise, is the same in all units and dimensions of an image.

    The widths of 2000 images are N(0, (.75 / .8)^2): the mean of their absolute values is .748, give or take
    .5651 / sqrt(2000) = .0126; false alarm 1e-5.
    """
    model, seen, noise = small(), [], []
    constant(model, 0.0)
    real = torch.randn_like

    def keep(like: Any) -> Any:
        noise.append(real(like))
        return noise[-1]

    monkeypatch.setattr(torch, "randn_like", keep)
    monkeypatch.setattr(model.net, "write", lambda z: seen.append(z) or torch.zeros(len(z), 1, 4, 4))
    model.loss(torch.zeros(2000, 1, 4, 4))
    width = seen[0] / noise[1]
    assert_close(width, width[:, :1, :1].expand_as(width))
    assert abs(width[:, 0, 0].abs().mean().item() - 0.9375 * math.sqrt(2 / math.pi)) < 0.056


def test_scale_is_learned_in_train_mode_only_saved_and_undone_by_decode() -> None:
    model, data = small(), torch.rand(2, 1, 4, 4)
    constant(model, 3.0)
    model.eval().loss(data)
    assert model.scale.item() == 0.75
    model.train().loss(data)
    assert model.scale.item() == pytest.approx(0.9 * 0.75 + 0.1 * math.hypot(3.0, 0.75))
    twin = small()
    twin.load_state_dict(model.state_dict())
    assert twin.encode(data).mean.equal(model.encode(data).mean)
    model, x = small(), torch.randn(3, 4, 2)
    model.scale.fill_(2.0)
    assert_close(model.decode(x / 2), model.net.write(x))
    assert_close(model.to_data(x / 2), model.net.show(x))
    assert not torch.allclose(model.net.write(x), model.net.write(x / 2))


def test_settings_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image_sigma_vae: sigma must be above 0, got 0.0; 0.75 would do"):
        small(sigma=0.0)
    with pytest.raises(ValueError, match="image_sigma_vae: 5 multipliers halve an image 4 times"):
        ImageSigmaVAE((1, 8, 8))
    with pytest.raises(ValueError, match="image_sigma_vae: pixel_width must be above 0"):
        small(pixel_width=-1.0)
