"""What measures see of a batch: the units that count, and draws that are shared and leave no trace."""

from __future__ import annotations

import pytest
import torch

from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import Batch
from calmkit.metrics.held_out import held_out
from calmkit.model import CalmModel

VOCAB = 11


@pytest.fixture
def model() -> CalmModel:
    autoencoder = VAE(VOCAB, chunk_size=2, latent_dim=3, hidden_dim=8)
    backbone = GRUBackbone(hidden_dim=8, depth=1)
    embedder = TokensEmbedder(8, autoencoder.event, 2, VOCAB)
    head = MixtureHead(8, autoencoder.event, num_components=2, depth=1)
    return CalmModel(autoencoder, embedder, backbone, head, predict_first=False).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chunks = torch.randint(1, VOCAB, (2, 4, 2))
    valid = torch.tensor([[True] * 4, [False, False, True, True]])
    return chunks, valid, torch.arange(8).view(2, 4)


def test_the_units_are_those_that_are_predicted(model: CalmModel) -> None:
    chunks, valid, documents = batch()
    held = held_out(model, Batch(chunks, valid, group=documents), num_draws=3, seed=0)
    assert held is not None
    assert held.keep.tolist() == [[False, True, True, True], [False, False, False, True]]
    assert torch.equal(held.data, chunks[held.keep])
    assert held.rows.tolist() == [0, 0, 0, 1]
    assert held.groups is not None
    assert held.groups.tolist() == [1, 2, 3, 7]
    assert torch.equal(held.target.mean, model.encode(chunks).mean[held.keep])
    wanted = model.head.log_prob(held.context[held.keep], held.target.mean)
    assert torch.equal(held.log_prob(held.target.mean), wanted)


def test_draws_are_shared_and_depend_on_nobody(model: CalmModel) -> None:
    chunks, valid, documents = batch()
    one, other = (
        held_out(model, Batch(chunks, valid, group=documents), num_draws=3, seed=4) for _ in range(2)
    )
    assert one is not None
    assert other is not None
    before = torch.get_rng_state()
    first = one.draws()
    assert first.shape == (3, 4, 3)
    assert one.draws(3) is first  # the same ones, not others of the same law
    assert torch.equal(one.drawn_data(), model.autoencoder.to_data(first))
    assert torch.equal(torch.get_rng_state(), before)
    other.draws(5)  # whoever asks for others first
    assert torch.equal(other.draws(), first)
    away = held_out(model, Batch(chunks, valid, group=documents), num_draws=3, seed=5)
    assert away is not None
    assert not torch.equal(away.draws(), first)


def test_a_batch_without_a_unit_that_counts_is_shown_to_nobody(model: CalmModel) -> None:
    chunks, valid, _ = batch()
    assert held_out(model, Batch(chunks, torch.zeros_like(valid)), num_draws=2, seed=0) is None
