"""Nats per dimension are those of the autoencoder's latents, whatever transform a model sees them through."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from calmkit.autoencoders.patches import Patches
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.images.scores import LatentNats
from calmkit.interfaces import (
    Batch,
    Context,
    DensityHead,
    EventSpec,
    HeadInfo,
    LatentTransform,
    Posterior,
    SampleOptions,
)
from calmkit.model import CalmModel
from calmkit.transforms.chain import Chain
from calmkit.transforms.normalise import NormaliseTransform

SHAPE = (1, 4, 4)  # four units of four values


class StandardLatents(DensityHead):
    """Knows the law of the latents, N(0, 1) in each dimension, as it looks behind an affine transform."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.center, self.scale = center, scale

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return -self.log_prob(context, target.mean)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        law = torch.distributions.Normal(-self.center / self.scale, 1 / self.scale)
        return law.log_prob(z).sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        raise NotImplementedError


class Scaled(LatentTransform):
    """All values times e^0.7; keeps no Gaussian, so that a draw goes through."""

    keeps_gaussians = False

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout
        self.log_scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z * self.log_scale.exp(), (z.shape[-1] * self.log_scale).expand(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        return z / self.log_scale.exp()


class ScaledLearned(Scaled):
    """The same, trained."""

    learned = True


def images() -> Batch:
    data = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    return Batch(data, torch.ones(5, 4, dtype=torch.bool))


def nats(transform: LatentTransform | None, center: Tensor, scale: Tensor) -> float:
    autoencoder = Patches(SHAPE, patch=2)
    chain = None if transform is None else Chain(autoencoder.event, autoencoder.layout, [transform])
    model = CalmModel(
        autoencoder,
        LatentsEmbedder(8, autoencoder.event),
        GRUBackbone(hidden_dim=8),
        StandardLatents(center, scale),
        transform=chain,
    )
    metric = LatentNats()
    metric.update(model.eval(), images())
    return metric.compute()["nats_per_dim"].item()


def by_hand() -> float:
    """0.5 log(2 pi) + the mean of z^2 / 2; a patch has the pixels of its image."""
    return 0.5 * math.log(2 * math.pi) + images().data.square().mean().item() / 2


@pytest.mark.parametrize("factor", [1.0, 0.1, 30.0])
def test_nats_do_not_move_when_the_scale_of_normalise_is_multiplied(factor: float) -> None:
    normalise = NormaliseTransform(EventSpec((4,)), (2, 2))
    normalise.fit([3 * torch.randn(50, 4, 4) + 2])
    normalise.scale *= factor
    seen = nats(normalise, normalise.center.double(), normalise.scale.double())
    assert seen == pytest.approx(by_hand(), rel=1e-9)


@pytest.mark.parametrize("cls", [Scaled, ScaledLearned])
def test_nats_do_not_ask_whether_a_transform_learns(cls: type[Scaled]) -> None:
    transform = cls(EventSpec((4,)), (2, 2))
    assert nats(transform, torch.zeros(4), torch.full((4,), math.exp(-0.7))) == pytest.approx(by_hand())


def test_nats_without_a_transform_are_those_of_the_head() -> None:
    assert nats(None, torch.zeros(4), torch.ones(4)) == pytest.approx(by_hand())
