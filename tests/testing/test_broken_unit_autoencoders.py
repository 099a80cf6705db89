"""Autoencoders of units of numbers that break one law each, and one with parameters that keeps them all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.interfaces import EventSpec, LossOutput, NotTrainable, Posterior, UnitwiseAutoencoder
from calmkit.testing import check_autoencoder


class Linear(UnitwiseAutoencoder):
    """A linear map of P numbers onto D latents and back; each subclass breaks one law."""

    sizes = ("row",)

    def __init__(self, row: int, *, width: int = 3, latent_dim: int = 2) -> None:
        super().__init__()
        assert row % width == 0
        self.event, self.unit_shape = EventSpec((latent_dim,)), (width,)
        self.to_latent, self.back = nn.Linear(width, 2 * latent_dim), nn.Linear(latent_dim, width)

    def encode(self, data: Tensor) -> Posterior:
        mean, log_std = self.to_latent(data).chunk(2, -1)
        return Posterior(mean, log_std)

    def decode(self, z: Tensor) -> Tensor:
        return self.back(z)

    def to_data(self, z: Tensor) -> Tensor:
        return self.decode(z)

    def loss(self, data: Tensor) -> LossOutput:
        posterior = self.encode(data)
        error = (self.decode(posterior.sample(1)[0]) - data).square().sum(-1)
        return LossOutput(error + posterior.kl().sum(-1))


class Ids(Linear):
    """Its event holds ids."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.event = EventSpec((2,), 5)


class Shapeless(Linear):
    """Says that a unit holds nothing."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.unit_shape = (3, 0)


class Hides(Linear):
    """Keeps a layer where torch does not find it."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.layers = [nn.Linear(2, 2)]


class Flat(Linear):
    """Loses a leading dimension."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).flatten(0, 1) if z.ndim > 2 else super().decode(z)

    def to_data(self, z: Tensor) -> Tensor:
        return super().decode(z)


class Rounds(Linear):
    """Gives whole numbers back."""

    def to_data(self, z: Tensor) -> Tensor:
        return self.decode(z).round().long()


class Reduces(Linear):
    """One loss for all."""

    def loss(self, data: Tensor) -> LossOutput:
        return LossOutput(super().loss(data).per_unit.mean(1))


class Silent(Linear):
    """Has parameters and no loss."""

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable("nothing to learn")


class Restless(Linear):
    """Encodes by chance."""

    def encode(self, data: Tensor) -> Posterior:
        return super().encode(data + 1e-3 * torch.randn_like(data))


class Neighbourly(Linear):
    """Leans on the units beside."""

    def encode(self, data: Tensor) -> Posterior:
        return super().encode(data - data.mean(tuple(range(data.ndim - 1))))


class Steps(Linear):
    """Has no gradient in the value."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z.detach()) + 0 * z.sum(-1, keepdim=True)


class Wide(Linear):
    """Decodes in torch's default dtype."""

    def to_data(self, z: Tensor) -> Tensor:
        return self.decode(z).to(torch.get_default_dtype())


class Awake(Linear):
    """Can't be frozen."""

    def train(self, mode: bool = True) -> Any:
        return super().train(True)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Ids, "the value of a unit is continuous"),
        (Shapeless, "the constructor states the facts of its kind': its constructor must set unit_shape"),
        (Hides, "what a part keeps is registered"),
        (Flat, "decode keeps the leading dimensions"),
        (Rounds, "to_data gives real numbers"),
        (Reduces, "one loss per unit, not reduced"),
        (Silent, "NotTrainable exactly where there are no parameters': it has parameters"),
        (Restless, "encode is deterministic"),
        (Neighbourly, "each unit alone"),
        (Steps, "decode is differentiable"),
        (Wide, "dtype follows the input"),
        (Awake, "frozen inside a model"),
    ],
)
def test_a_broken_autoencoder_is_seen(cls: type[UnitwiseAutoencoder], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_autoencoder(cls)


@pytest.mark.parametrize("settings", [{}, {"width": 4, "latent_dim": 5}])
def test_one_with_parameters_keeps_every_law(settings: dict[str, int]) -> None:
    check_autoencoder(Linear, **settings)


class Named(Linear):
    """Is built with what only its kind of data knows."""

    sizes = ("names",)

    def __init__(self, names: tuple[str, ...], *, width: int = 3) -> None:
        super().__init__(3 * len(names), width=width)


def test_a_size_that_nobody_says_is_asked_for() -> None:
    with pytest.raises(AssertionError, match=r"nobody says its names; give it in `sizes`"):
        check_autoencoder(Named)
    check_autoencoder(Named, sizes={"names": ("a", "b")})
