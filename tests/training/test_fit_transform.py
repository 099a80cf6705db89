"""Transforms see draws of the training split once, and nobody notices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

import calmkit.training.fit_transform
from calmkit.autoencoders.patches import Patches
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Autoencoder, Batch, LatentTransform
from calmkit.model import CalmModel
from calmkit.training.fit_transform import fit_transform
from calmkit.transforms.adaptor import AdaptorTransform
from calmkit.transforms.chain import Chain
from calmkit.transforms.normalise import NormaliseTransform
from calmkit.transforms.patchify import PatchifyTransform


class Rows(LightningDataModule):
    """Batches of a training split, counted."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        super().__init__()
        self.batches, self.read = list(batches), 0

    def first_epoch(self) -> Any:
        for batch in self.batches:
            self.read += 1
            yield batch


def rows(data: Tensor, units: int, size: int = 4) -> Rows:
    return Rows(Batch(part, torch.ones(len(part), units, dtype=torch.bool)) for part in data.split(size))


def model_of(autoencoder: Autoencoder, *transforms: type[LatentTransform]) -> CalmModel:
    event, layout, made = autoencoder.event, autoencoder.layout, list[LatentTransform]()
    for cls in transforms:
        made.append(cls(event, layout))
        event, layout = made[-1].event, made[-1].layout
    chain = Chain(autoencoder.event, autoencoder.layout, made)
    parts = (LatentsEmbedder(4, event), GRUBackbone(hidden_dim=4), RegressionHead(4, event, depth=1))
    return CalmModel(autoencoder, *parts, transform=chain)


def numbers(model: CalmModel, place: int = 0) -> tuple[Tensor, Tensor]:
    assert model.transform is not None
    one: Any = model.transform.transforms[place]
    return one.center, one.scale


def test_center_and_scale_are_those_of_the_training_split_by_hand() -> None:
    """Two images of 1 x 2 pixels, patch 1: the values of the one dimension are -1, 0, 0.5 and 1."""
    data = torch.tensor([[[[-1.0, 0.0]]], [[[0.5, 1.0]]]])
    model = model_of(Patches((1, 1, 2), patch=1), NormaliseTransform)
    fit_transform(model, rows(data, 2, size=1), seed=0)
    center, scale = numbers(model)
    assert center.tolist() == [0.125]
    # squares of -1.125, -0.125, 0.375 and 0.875: 1.265625, 0.015625, 0.140625, 0.765625; their mean 0.546875
    assert scale.tolist() == pytest.approx([math.sqrt(0.546875)])


def test_what_is_seen_are_draws_with_the_width_of_the_posterior() -> None:
    """An image of zeros with noise 0.5: 8,000 draws, so six standard errors of their scale are 0.024."""
    model = model_of(Patches((1, 8, 8), patch=1, noise=0.5), NormaliseTransform)
    fit_transform(model, rows(torch.zeros(125, 1, 8, 8), 64), seed=0)
    assert abs(numbers(model)[1].item() - 0.5) < 6 * 0.5 / math.sqrt(2 * 8000)


def test_a_transform_behind_another_is_fitted_to_what_that_one_gives() -> None:
    data = torch.rand(8, 1, 4, 4) * 2 - 1
    model = model_of(Patches((1, 4, 4), patch=1), PatchifyTransform, NormaliseTransform)
    fit_transform(model, rows(data, 16), seed=0)
    first: Any = model.transform.transforms[0]  # type: ignore[union-attr]
    seen = first(model.autoencoder.encode(data).mean)[0].flatten(0, 1)  # [32, 4]
    center, scale = numbers(model, 1)
    torch.testing.assert_close(center, seen.mean(0))
    torch.testing.assert_close(scale, seen.std(0, correction=0))
    torch.testing.assert_close(model.encode(data).mean.flatten(0, 1).std(0, correction=0), torch.ones(4))


def test_rows_are_read_and_drawn_once_for_all_transforms() -> None:
    """The second sees what the first made of the same draws: center 0 and scale 1 to rounding."""
    read = rows(torch.zeros(8, 1, 2, 2), 4)
    model = model_of(Patches((1, 2, 2), patch=1, noise=0.5), NormaliseTransform, NormaliseTransform)
    fit_transform(model, read, seed=0)
    center, scale = numbers(model, 1)
    torch.testing.assert_close(center, torch.zeros(1))
    torch.testing.assert_close(scale, torch.ones(1))
    assert read.read == 2


def test_the_seed_says_which_draws_and_torchs_generator_stays_as_it_was() -> None:
    data, found = torch.zeros(6, 1, 2, 2), list[float]()
    for seed in (0, 0, 1):
        model = model_of(Patches((1, 2, 2), patch=1, noise=1.0), NormaliseTransform)
        before = torch.get_rng_state()
        fit_transform(model, rows(data, 4), seed)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(numbers(model)[1].item())
    assert found[0] == found[1] != found[2]


def test_no_more_rows_are_seen_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calmkit.training.fit_transform, "ROWS_SEEN", 10)
    data = torch.cat([torch.rand(12, 1, 2, 2), torch.full((12, 1, 2, 2), 100.0)])
    read = rows(data, 4)
    model = model_of(Patches((1, 2, 2), patch=1), NormaliseTransform)
    fit_transform(model, read, seed=0)
    assert numbers(model)[0].item() < 1  # three batches of four, not the ones behind them


def test_transforms_that_need_no_fit_read_nothing() -> None:
    read = rows(torch.zeros(4, 1, 4, 4), 16)
    fit_transform(model_of(Patches((1, 4, 4), patch=1), PatchifyTransform, AdaptorTransform), read, seed=0)
    assert read.read == 0


def test_units_that_are_not_real_are_not_seen() -> None:
    autoencoder = VAE(10, chunk_size=2, latent_dim=3, hidden_dim=4)
    data, valid = torch.randint(10, (2, 4, 2)), torch.tensor([[True] * 4, [False, False, True, True]])
    found = []
    for other in (data, torch.where(valid.unsqueeze(-1), data, (data + 1) % 10)):
        model = model_of(autoencoder, NormaliseTransform)
        fit_transform(model, Rows([Batch(other, valid)]), seed=0)
        found.append(numbers(model))
    torch.testing.assert_close(found[0], found[1])
