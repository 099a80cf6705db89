from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from calmkit.autoencoders.image_vae import ImageVAE
from calmkit.nn.psnr import psnr


def small(shape: tuple[int, int, int] = (1, 4, 4), **settings: Any) -> ImageVAE:
    sizes = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "attention": False, "latent_dim": 2}
    return ImageVAE(shape, **{**sizes, **settings})


def constant(model: ImageVAE, posterior: list[float], image: float) -> None:
    """The encoder says the same of each unit, the decoder shows one grey."""
    encoder, decoder = model.net.encoder[-1], model.net.decoder[-1].conv
    for layer in (encoder, decoder):
        nn.init.zeros_(layer.weight)
    encoder.bias.data = torch.tensor(posterior)
    nn.init.constant_(decoder.bias, image)


def test_loss_by_hand() -> None:
    """mu (.1, 1) and sigma (.9, .5) have KL .01536052 + .81814718 (golden case V1).

    Pixels of .2 decoded as .3 at width .1 cost .5 + .918939 - 2.302585 = -.883646 each, 16 of them shared out
    to 4 units: -3.534586.
    """
    model = small(kl_weight=0.5)
    constant(model, [0.1, 1.0, *torch.tensor([0.9, 0.5]).log().tolist()], 0.3)
    output = model.loss(torch.full((3, 1, 4, 4), 0.2))
    kl = 0.01536052 + 0.81814718
    wanted = -3.534586 + 0.5 * kl
    assert_close(output.per_unit, torch.full((3, 4), wanted), atol=2e-6, rtol=0)
    found = {name: term.item() for name, term in output.terms.items()}
    assert found == pytest.approx(
        {"reconstruction": -3.534586, "kl": kl, "std": 0.7, "active_dims": 0.0, "psnr": 26.0206}, abs=1e-5
    )


def test_an_image_pays_for_its_own_pixels_alone() -> None:
    model = small(reconstruction="l1")
    constant(model, [0.0, 0.0, 0.0, 0.0], 0.0)
    images = torch.zeros(2, 1, 4, 4)
    images[1, 0, 0, 0] = 0.4  # 4 nats at scale .1, shared out to 4 units
    per_unit = model.loss(images).per_unit
    assert_close(per_unit[1] - per_unit[0], torch.ones(4))


def test_a_stray_width_stays_finite() -> None:
    model = small()
    constant(model, [0.0, 0.0, 400.0, -400.0], 0.0)
    posterior = model.encode(torch.zeros(1, 1, 4, 4))
    assert posterior.log_std is not None
    assert posterior.log_std[0, 0].tolist() == [10.0, -10.0]


def squares(rows: int) -> Tensor:
    """Images of one bright square on black, of 3 x 3 pixels, anywhere."""
    images = torch.full((rows, 1, 8, 8), -1.0)
    places = torch.randint(6, (rows, 2)).tolist()
    for image, (top, left) in zip(images, places, strict=True):
        image[0, top : top + 3, left : left + 3] = 1
    return images


def test_stage_1_learns_images() -> None:
    """30 steps on 200 images: on others a lower loss, and more decibel than the mean image has."""
    train, test = squares(200), squares(100)
    model = small((1, 8, 8), channels=8, latent_dim=4)
    bar = psnr(test, train.mean(0, keepdim=True).expand_as(test))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    before = model.loss(test).per_unit.mean().item()
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(train[torch.randint(200, (50,))]).per_unit.mean().backward()
        optimizer.step()
    assert model.loss(test).per_unit.mean().item() < before - 10
    assert psnr(test, model.to_data(model.encode(test).mean)) > bar + 1


def test_settings_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="image_vae: 5 multipliers halve an image 4 times"):
        ImageVAE((1, 8, 8))
    with pytest.raises(ValueError, match="image_vae: kl_weight must be at least 0"):
        small(kl_weight=-1.0)
    with pytest.raises(ValueError, match="image_vae: pixel_width must be above 0"):
        small(pixel_width=0.0)


def test_the_defaults_are_the_published_layout() -> None:
    """KL-16: 256 x 256 pixels to 16 x 16 units of 16 numbers; GIVT's widths are the same."""
    with torch.device("meta"):
        model = ImageVAE((3, 256, 256))
        plain = ImageVAE((3, 256, 256), attention=False)
    assert (model.layout, model.event.shape) == ((16, 16), (16,))
    attention = 4 * (512 * 512 + 512) + 2 * 512  # q, k, v, out and the norm
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, plain)]
    assert counts[0] - counts[1] == (1 + 2 + 1 + 3) * attention  # middles, and each block of the lowest level
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.decode(model.encode(torch.empty(1, 3, 256, 256, device="meta")).mean)
    assert 256 * (model.encode_flops() + model.decode_flops()) == counter.get_total_flops()
