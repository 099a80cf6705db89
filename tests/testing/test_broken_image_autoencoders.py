"""Autoencoders of images that keep every law but one, and the law that the kit must name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.autoencoders.image_vae import ImageVAE
from calmkit.autoencoders.patches import Patches
from calmkit.interfaces import Autoencoder, EventSpec, ImageAutoencoder, LossOutput, Posterior
from calmkit.testing import check_autoencoder


class Coder(ImageAutoencoder):
    """A small VAE, wrapped: each subclass breaks one law."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        small: dict[str, Any] = {"channels": 8, "multipliers": (1, 1), "blocks": 1, "attention": False}
        self.inner = ImageVAE(image_shape, latent_dim=3, **small)
        self.event, self.layout = self.inner.event, self.inner.layout

    def encode(self, data: Tensor) -> Posterior:
        return self.inner.encode(data)

    def decode(self, z: Tensor) -> Tensor:
        return self.inner.decode(z)

    def to_data(self, z: Tensor) -> Tensor:
        return self.inner.to_data(z)

    def loss(self, data: Tensor) -> LossOutput:
        return self.inner.loss(data)


class Sequential(Coder):
    """Has no grid."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.layout = None  # type: ignore[assignment]


class OtherGrid(Coder):
    """States a grid of as many columns as the image has."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.layout = (image_shape[1], image_shape[2])


class Squared(Coder):
    """States a value of two dimensions."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.event = EventSpec((3, 1))


class Flat(Coder):
    """Takes one leading dimension only."""

    def to_data(self, z: Tensor) -> Tensor:
        return super().to_data(z.flatten(0, -3))


class Reduced(Coder):
    """Its loss is one value per image."""

    def loss(self, data: Tensor) -> LossOutput:
        return LossOutput(super().loss(data).per_unit.mean(1))


class Noisy(Coder):
    """Its encoder draws."""

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(super().encode(data).sample(1)[0])


class Dropping(Coder):
    """Its encoder drops in train mode."""

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(nn.functional.dropout(super().encode(data).mean, 0.5, self.training))


class Batchwise(Coder):
    """Takes the mean over the batch away."""

    def encode(self, data: Tensor) -> Posterior:
        mean = super().encode(data).mean
        return Posterior(mean - 0.1 * mean.mean(0))


class Unclipped(Coder):
    """Shows what it decodes as it is."""

    def to_data(self, z: Tensor) -> Tensor:
        return self.decode(z)


class Upright(Coder):
    """Shows images upside down."""

    def to_data(self, z: Tensor) -> Tensor:
        return super().to_data(z).flip(-2)


class Cut(Coder):
    """Its decoder passes no gradient."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z.detach())


class Idle(Coder):
    """Has a parameter that the loss never reads."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.idle = nn.Parameter(torch.zeros(3))


class OwnDtype(Coder):
    """Decodes in torch's default dtype."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).to(torch.get_default_dtype())


class Awake(Coder):
    """Cannot be put to sleep."""

    def train(self, mode: bool = True) -> Coder:
        return super().train(True)


class Counts(Coder):
    """Counts what it showed, in its state."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.shown: Tensor
        self.register_buffer("shown", torch.tensor(0))

    def to_data(self, z: Tensor) -> Tensor:
        self.shown += len(z)
        return super().to_data(z)


class Hopeful(Patches):  # type: ignore[misc]
    """Nothing to learn, yet a loss."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)

    def loss(self, data: Tensor) -> LossOutput:  # type: ignore[override]
        return LossOutput(torch.zeros(len(data), 16))


class Homeless(Autoencoder):
    """Of no kind of data that the kit knows."""

    def __init__(self) -> None:
        super().__init__()

    encode = decode = to_data = loss = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Sequential, "the constructor states the facts of its kind"),
        (OtherGrid, r"encode gives \[B, layout, \*event\]"),
        (Squared, "event and layout say what the units are"),
        (Flat, r"to_data gives images \[\*, C, H, W\]"),
        (Reduced, "one loss per unit, not reduced"),
        (Noisy, "encode is deterministic"),
        (Dropping, "encode is equal in train and eval mode"),
        (Batchwise, "an image alone gives what it gives in a batch"),
        (Unclipped, r"to_data gives the decoded image within \[-1, 1\]': from"),
        (Upright, r"to_data gives the decoded image within \[-1, 1\]': to_data and"),
        (Cut, "decode is differentiable"),
        (Idle, r"gradient reaches every parameter': no gradient for \['idle'\]"),
        (OwnDtype, "dtype follows the input"),
        (Awake, "frozen inside a model"),
        (Counts, r"frozen inside a model, after .train\(\) too': changed by encode or to_data: \['shown'\]"),
        (Hopeful, "NotTrainable exactly where there are no parameters"),
        (Homeless, "it serves a kind of data that the kit can make"),
    ],
)
def test_a_broken_autoencoder_of_images_is_seen(cls: type[Autoencoder], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_autoencoder(cls)


def test_the_wrapped_autoencoder_itself_keeps_every_law() -> None:
    check_autoencoder(Coder)
