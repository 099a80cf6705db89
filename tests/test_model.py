from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import FEW
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Batch, Context, DensityHead, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.model import CalmModel
from calmkit.text.ending import fill_after_end, has_ended
from calmkit.text.units import chunk_size_of

E = 9  # end-of-text
V, K, H = 10, 4, 8


def continuous_model(predict_first: bool = True) -> CalmModel:
    autoencoder = VAE(V, chunk_size=K, latent_dim=6, hidden_dim=8)
    event = autoencoder.event
    return CalmModel(
        autoencoder,
        TokensEmbedder(H, event, K, V),
        GRUBackbone(hidden_dim=H),
        RegressionHead(H, event, depth=1),
        predict_first=predict_first,
    )


def batch() -> tuple[Tensor, Tensor]:
    chunks, valid = torch.randint(V, (2, 5, K)), torch.ones(2, 5, dtype=torch.bool)
    valid[1, :2] = False
    return chunks, valid


def test_system_the_autoencoder_stays_frozen_in_all_three_senses() -> None:
    model = continuous_model().train()
    assert not any(module.training for module in model.autoencoder.modules())
    assert model.head.training
    assert model.backbone.training
    before = {name: value.clone() for name, value in model.autoencoder.state_dict().items()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert not {id(p) for p in model.autoencoder.parameters()} & {id(p) for p in trained}
    chunks, valid = batch()
    optimizer = torch.optim.SGD(trained, lr=0.1)
    model.loss(Batch(chunks, valid)).per_unit.mean().backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in model.autoencoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.autoencoder.state_dict().items())
    assert torch.equal(model.encode(chunks).mean, model.encode(chunks).mean)  # no dropout
    assert not any(module.training for module in model.eval().modules())


def test_only_valid_units_count_and_the_invalid_ones_are_never_read() -> None:
    model = continuous_model().eval()
    chunks, valid = batch()
    loss = model.loss(Batch(chunks, valid))
    assert torch.equal(loss.keep, valid)
    assert loss.per_unit.shape == (8,)
    other = chunks.clone()
    other[~valid] = (other[~valid] + 1) % V
    assert torch.allclose(model.loss(Batch(other, valid)).per_unit, loss.per_unit)
    # row-major: the last three are row 1's, as if its real units stood alone
    alone = model.loss(Batch(chunks[1:, 2:], valid[1:, 2:])).per_unit
    assert torch.allclose(loss.per_unit[5:], alone)


def test_the_loss_of_a_unit_is_the_head_s_loss_at_its_own_condition() -> None:
    model = continuous_model().eval()
    chunks, valid = batch()
    target = model.encode(chunks)
    h = model.context(chunks, valid, target.mean).h
    expected = [model.head.loss(Context(h[b, i]), target[b, i]) for b, i in valid.nonzero().tolist()]
    assert torch.allclose(model.loss(Batch(chunks, valid)).per_unit, torch.stack(expected))


def test_without_the_first_unit_the_others_are_as_before_and_the_start_vector_keeps_a_gradient() -> None:
    model = continuous_model().eval()
    chunks, valid = batch()
    every = model.loss(Batch(chunks, valid))
    model.predict_first = False
    rest = model.loss(Batch(chunks, valid))
    keep = valid & (valid.long().cumsum(1) > 1)  # the second row begins with fill
    assert torch.equal(rest.keep, keep)
    assert torch.allclose(rest.per_unit, every.per_unit[keep[valid]])
    assert torch.equal(model.predict(valid), keep)
    everywhere = torch.ones_like(valid)  # so that the start vector conditions unit 0 only
    model.loss(Batch(chunks, everywhere)).per_unit.mean().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)  # DDP waits for each
    assert model.backbone.first.grad.abs().sum() == 0


KINDS = ["continuous", "latents", "discrete"]
kinds = pytest.mark.parametrize("kind", KINDS)


def density_model(kind: str) -> CalmModel:
    """Continuous over a transformer, the same with fed-back latents over a GRU, and discrete."""
    torch.manual_seed(0)
    autoencoder = (
        TokenChunks(V, chunk_size=K)
        if kind == "discrete"
        else VAE(V, chunk_size=K, latent_dim=6, hidden_dim=8)
    )
    event = autoencoder.event
    sizes = (H, event)
    embedder = LatentsEmbedder(*sizes) if kind == "latents" else TokensEmbedder(*sizes, K, V)
    backbone = (
        GRUBackbone(hidden_dim=H)
        if kind == "latents"
        else TransformerBackbone(hidden_dim=H, depth=2, heads=2)
    )
    if kind == "discrete":
        head: DensityHead = LocalARHead(H, event, depth=1, heads=1)
    else:
        head = MixtureHead(H, event, num_components=2, depth=1)
    model = CalmModel(autoencoder, embedder, backbone, head).eval()
    for part in (autoencoder, model.embedder, backbone, head):
        for parameter in part.parameters():  # small initial weights would hide a leak
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@dataclass(frozen=True)
class Given:
    """Rows filled on their left, the values they are read with, and what they score."""

    chunks: Tensor
    valid: Tensor

    def log_prob(self, model: CalmModel) -> Tensor:
        """`[B, L]`, of the posterior's mean or of the ids themselves."""
        z = model.encode(self.chunks).mean
        context = model.context(self.chunks, self.valid, z)
        assert isinstance(model.head, DensityHead)
        return model.head.log_prob(context, z)

    def __getitem__(self, rows: slice) -> Given:
        return Given(self.chunks[rows], self.valid[rows])


@st.composite
def batches(draw: st.DrawFn) -> Given:
    rows, units = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    fill = torch.tensor(draw(st.lists(st.integers(0, units - 1), min_size=rows, max_size=rows)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    chunks = torch.randint(V, (rows, units, K), generator=generator)
    return Given(chunks, torch.arange(units) >= fill.unsqueeze(1))


@kinds
@FEW
@given(batch=batches(), unit=st.integers(0, 4), token=st.integers(0, K - 1))
@torch.no_grad()
def test_system_a_chunk_conditions_later_units_only(kind: str, batch: Given, unit: int, token: int) -> None:
    """Change one token of unit j: the conditions of units 0..j stay, bit for bit, and that of j + 1 moves.

    So does the density of the units before j. A filled unit is seen by nobody.
    """
    model, unit = density_model(kind), unit % batch.chunks.shape[1]
    chunks = batch.chunks.clone()
    chunks[:, unit, token] = (chunks[:, unit, token] + 1) % V
    other = Given(chunks, batch.valid)
    before, after = (model.context(b.chunks, b.valid).h for b in (batch, other))
    assert torch.equal(after[:, : unit + 1], before[:, : unit + 1])
    real = batch.valid[:, unit]
    assert torch.equal(after[~real], before[~real])
    if unit + 1 < chunks.shape[1]:
        assert (after[real, unit + 1] != before[real, unit + 1]).any(-1).all()
    assert torch.equal(other.log_prob(model)[:, :unit], batch.log_prob(model)[:, :unit])
    assert not torch.equal(other.log_prob(model)[:, unit], batch.log_prob(model)[:, unit])


@kinds
@FEW
@given(batch=batches(), split=st.integers(1, 4))
@torch.no_grad()
def test_system_step_equals_forward_from_the_chunks(kind: str, batch: Given, split: int) -> None:
    """As generation reads a prompt and then its own units: embedder, start, step."""
    model = density_model(kind)
    z = model.encode(batch.chunks).mean
    x = model.embedder(batch.chunks, z)
    context, state = model.backbone.start(len(x), x.shape[1])
    h = [context.h]
    for at in range(0, x.shape[1] - 1, split):
        place = slice(at, min(at + split, x.shape[1] - 1))
        context, state = model.backbone.step(x[:, place], batch.valid[:, place], state)
        h.append(context.h)
    expected = model.context(batch.chunks, batch.valid, z).h
    torch.testing.assert_close(torch.cat(h, 1), expected, rtol=0, atol=1e-11)


@kinds
@FEW
@given(batch=batches())
@torch.no_grad()
def test_system_a_batch_of_one_is_a_row_of_a_batch(kind: str, batch: Given) -> None:
    """Its conditions and its density; and a row without its filling is as it was with it."""
    model = density_model(kind)
    h, log_prob = model.context(batch.chunks, batch.valid).h, batch.log_prob(model)
    close = {"rtol": 0, "atol": 1e-10}
    for row in range(len(h)):
        one = batch[row : row + 1]
        torch.testing.assert_close(model.context(one.chunks, one.valid).h[0], h[row], **close)
        torch.testing.assert_close(one.log_prob(model)[0], log_prob[row], **close)
        real = one.valid[0]
        bare = Given(one.chunks[:, real], one.valid[:, real])
        torch.testing.assert_close(bare.log_prob(model)[0], log_prob[row, real], **close)


class MemoryHead(GenerativeHead):
    """Its loss counts the visible past of each unit; it refuses flattened units."""

    info = HeadInfo(sampling="one_step", needs_memory=True)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        assert context.memory is not None
        assert context.visible is not None
        assert context.h.shape[:2] == target.mean.shape[:2] == (2, 5)
        return context.visible.sum(-1).to(context.h.dtype)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        raise NotImplementedError


def test_a_head_that_reads_a_memory_gets_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = continuous_model()
    model.head = MemoryHead()
    chunks, valid = batch()
    forward = model.backbone.forward

    def with_memory(x: Tensor, valid: Tensor) -> Context:
        past = torch.ones(5, 5, dtype=torch.bool).tril(-1) & valid.unsqueeze(1)
        return Context(forward(x, valid).h, x, past)

    monkeypatch.setattr(model.backbone, "forward", with_memory)
    assert model.loss(Batch(chunks, valid)).per_unit.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_targets_do_not_depend_on_the_precision_of_training() -> None:
    model = continuous_model().float()
    chunks, _ = batch()
    plain = model.encode(chunks).mean
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.encode(chunks).mean, plain)
        assert model.head.network(torch.zeros(1, H, dtype=torch.float32)).dtype == torch.bfloat16


def test_a_discrete_model_is_the_same_model() -> None:
    autoencoder = TokenChunks(V, chunk_size=K)
    head = LocalARHead(H, autoencoder.event, depth=1, heads=1)
    model = CalmModel(
        autoencoder, TokensEmbedder(H, autoencoder.event, K, V), GRUBackbone(hidden_dim=H), head
    )
    chunks, valid = batch()
    h = model.context(chunks, valid, chunks).h
    assert chunk_size_of(model) == K
    assert torch.allclose(
        model.loss(Batch(chunks, valid)).per_unit, -head.log_prob(Context(h[valid]), chunks[valid])
    )
    ids, z = model.draw(Context(h), 3)
    assert ids.shape == (3, 2, 5, K)
    assert torch.equal(ids, z)


def test_draws_come_as_ids_and_as_the_values_behind_them() -> None:
    model = continuous_model().eval()
    ids, z = model.draw(Context(torch.randn(3, H)), 2)
    assert z.shape == (2, 3, 6)
    assert torch.equal(ids, model.autoencoder.to_data(z))


@pytest.mark.parametrize(
    ("ids", "opens", "filled", "ended"),
    [
        ([1, 2, 3, 4], False, [1, 2, 3, 4], False),
        ([1, E, 3, 4], False, [1, E, E, E], True),
        ([E, 2, 3, 4], False, [E, E, E, E], True),
        ([1, 2, 3, E], False, [1, 2, 3, E], True),
        ([E, E, 3, 4], True, [E, E, 3, 4], False),  # the fill of a document whose length is no multiple of K
        ([E, 2, E, 4], True, [E, 2, E, E], True),
        ([E, E, E, E], True, [E, E, E, E], True),  # an empty document
        ([1, E, 3, 4], True, [1, E, E, E], True),
    ],
)
def test_nothing_after_an_end_of_text_survives(
    ids: list[int], opens: bool, filled: list[int], ended: bool
) -> None:
    at_start = torch.tensor([opens])
    result = fill_after_end(torch.tensor([ids]), E, at_start)
    assert result.tolist() == [filled]
    assert has_ended(result, E, at_start).tolist() == [ended]
