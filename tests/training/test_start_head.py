"""A head that begins from data sees the targets of the training split, in order, and nobody else notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from small_runs import TINY, differences, go_on, small_run, stopped, workshop
from torch import Tensor

from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.heads.regression import RegressionHead
from calmkit.heads.tied_mixture import TiedMixtureHead
from calmkit.interfaces import Batch, EventSpec
from calmkit.model import CalmModel
from calmkit.training.start_head import start_head
from calmkit.transforms.chain import Chain
from calmkit.transforms.normalise import NormaliseTransform


class Rows(LightningDataModule):
    """Batches of a training split, counted."""

    def __init__(self, *batches: Batch) -> None:
        super().__init__()
        self.batches, self.read = batches, 0

    def first_epoch(self) -> Any:
        for batch in self.batches:
            self.read += 1
            yield batch


def model_of(head: Any, transform: Chain | None = None) -> CalmModel:
    coder = VAE(257, chunk_size=2, latent_dim=3, hidden_dim=8)
    parts = (LatentsEmbedder(4, coder.event), GRUBackbone(hidden_dim=4), head)
    return CalmModel(coder, *parts, transform=transform)


def batch(rows: Tensor, real: int = 4) -> Batch:
    valid = torch.ones(rows.shape[:2], dtype=torch.bool)
    valid[:, real:] = False
    return Batch(rows, valid)


def tied(components: int = 2) -> TiedMixtureHead:
    return TiedMixtureHead(4, EventSpec((3,)), num_components=components)


def test_the_components_are_the_posteriors_of_the_units_that_count() -> None:
    model = model_of(tied(1))
    rows = torch.tensor([[[7, 7], [1, 2], [7, 7], [3, 4]]]).repeat(3, 1, 1)
    rows[:, 3] = torch.tensor([9, 9])  # not real: as often as the commonest, and not seen
    data = Rows(batch(rows, real=3), batch(rows, real=3), batch(rows, real=3))
    state = torch.get_rng_state()
    start_head(model, data, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    expected = model.encode(torch.tensor([[[7, 7]]]))
    assert isinstance(model.head, TiedMixtureHead)
    assert expected.log_std is not None
    torch.testing.assert_close(model.head.places, expected.mean[0])
    torch.testing.assert_close(model.head.log_scale, expected.log_std.flatten() + torch.tensor(1.5).log())
    assert data.read == 2  # 16 units are wanted, nine are in each batch


def test_a_transform_is_behind_it() -> None:
    plain, behind = tied(1), tied(1)
    model = model_of(plain)
    transform = Chain(model.event, None, [NormaliseTransform(model.event, None)])
    moved = model_of(behind, transform)
    moved.autoencoder.load_state_dict(model.autoencoder.state_dict())
    one: Any = transform.transforms[0]
    one.center.fill_(2.0)
    one.scale.fill_(4.0)
    one.fitted.fill_(True)
    data = Rows(batch(torch.full((2, 4, 2), 7)))
    for each in (model, moved):
        start_head(each, data, seed=1)
    torch.testing.assert_close(behind.loc, (plain.loc - 2) / 4)
    torch.testing.assert_close(behind.log_scale.exp(), plain.log_scale.exp() / 4)


def test_every_other_head_is_left_alone_and_nothing_is_read() -> None:
    model = model_of(RegressionHead(4, EventSpec((3,)), depth=1))
    before = [p.clone() for p in model.parameters()]
    data = Rows(batch(torch.full((2, 4, 2), 7)))
    start_head(model, data, seed=1)
    assert data.read == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_run_that_goes_on_or_takes_a_head_over_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are there already, so the training split is not read for them; of other parts it is."""
    heads: list[str] = []

    def counted(model: CalmModel, data: Any, seed: int) -> None:
        heads.append(type(model.head).__name__)
        start_head(model, data, seed)

    monkeypatch.setattr("calmkit.training.train.start_head", counted)
    given = (*TINY, "evaluation.untrained=false", "head=tied_mixture", "head.num_components=8")
    with workshop(tmp_path) as folder:
        whole = small_run(folder, "whole", *given)
        stopped(small_run, "lm", 1, folder, "stopped", *given)
        assert len(heads) == 2
        assert differences(whole, go_on(folder / "stopped")) == []
        given += (f"stages.autoencoder.init_from={whole.folder}", f"stages.lm.init_from={whole.folder}")
        small_run(folder, "all", *given)
        small_run(folder, "head", *given, "stages.lm.init_parts=[head]")
        assert len(heads) == 2
        small_run(folder, "backbone", *given, "stages.lm.init_parts=[backbone]")
    assert heads == ["TiedMixtureHead"] * 3
