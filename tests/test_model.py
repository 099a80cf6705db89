from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.model import CalmModel, fill_after_end, has_ended

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
        eos_id=E,
        predict_first=predict_first,
    )


def batch() -> tuple[Tensor, Tensor]:
    chunks, valid = torch.randint(V, (2, 5, K)), torch.ones(2, 5, dtype=torch.bool)
    valid[1, :2] = False
    return chunks, valid


def test_the_autoencoder_stays_frozen_in_all_three_senses() -> None:
    model = continuous_model().train()
    assert not any(module.training for module in model.autoencoder.modules())
    assert model.head.training
    assert model.backbone.training
    before = {name: value.clone() for name, value in model.autoencoder.state_dict().items()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert not {id(p) for p in model.autoencoder.parameters()} & {id(p) for p in trained}
    chunks, valid = batch()
    optimizer = torch.optim.SGD(trained, lr=0.1)
    model.loss(chunks, valid).per_unit.mean().backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in model.autoencoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.autoencoder.state_dict().items())
    assert torch.equal(model.encode(chunks).mean, model.encode(chunks).mean)  # no dropout
    assert not any(module.training for module in model.eval().modules())


def test_only_valid_units_count_and_the_invalid_ones_are_never_read() -> None:
    model = continuous_model().eval()
    chunks, valid = batch()
    loss = model.loss(chunks, valid)
    assert torch.equal(loss.keep, valid)
    assert loss.per_unit.shape == (8,)
    other = chunks.clone()
    other[~valid] = (other[~valid] + 1) % V
    assert torch.allclose(model.loss(other, valid).per_unit, loss.per_unit)
    # row-major: the last three are row 1's, as if its real units stood alone
    alone = model.loss(chunks[1:, 2:], valid[1:, 2:]).per_unit
    assert torch.allclose(loss.per_unit[5:], alone)


def test_the_loss_of_a_unit_is_the_head_s_loss_at_its_own_condition() -> None:
    model = continuous_model().eval()
    chunks, valid = batch()
    target = model.encode(chunks)
    h = model.context(chunks, valid, target.mean).h
    expected = [model.head.loss(Context(h[b, i]), target[b, i]) for b, i in valid.nonzero().tolist()]
    assert torch.allclose(model.loss(chunks, valid).per_unit, torch.stack(expected))


def test_without_the_first_unit_the_others_are_as_before_and_the_start_vector_keeps_a_gradient() -> None:
    model = continuous_model().eval()
    chunks, valid = batch()
    every = model.loss(chunks, valid)
    model.predict_first = False
    rest = model.loss(chunks, valid)
    keep = valid & (valid.long().cumsum(1) > 1)  # the second row begins with fill
    assert torch.equal(rest.keep, keep)
    assert torch.allclose(rest.per_unit, every.per_unit[keep[valid]])
    assert torch.equal(model.predict(valid), keep)
    everywhere = torch.ones_like(valid)  # so that the start vector conditions unit 0 only
    model.loss(chunks, everywhere).per_unit.mean().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)  # DDP waits for each
    assert model.backbone.first.grad.abs().sum() == 0


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
    assert model.loss(chunks, valid).per_unit.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


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
        autoencoder, TokensEmbedder(H, autoencoder.event, K, V), GRUBackbone(hidden_dim=H), head, eos_id=E
    )
    chunks, valid = batch()
    h = model.context(chunks, valid, chunks).h
    assert model.chunk_size == K
    assert torch.allclose(
        model.loss(chunks, valid).per_unit, -head.log_prob(Context(h[valid]), chunks[valid])
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
