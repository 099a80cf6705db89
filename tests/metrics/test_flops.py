from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.interfaces import (
    Autoencoder,
    Backbone,
    Context,
    Embedder,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    LossOutput,
    Posterior,
    SampleOptions,
    StatesFlops,
)
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.model import CalmModel

K, D, H, L = 2, 3, 5, 7


class LinearAutoencoder(Autoencoder):
    """Nobody's formula: a guest."""

    chunk_size = K
    event = EventSpec((D,))

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(K, D, bias=False), nn.Linear(D, K, bias=False)

    def encode(self, data: Tensor) -> Posterior:
        mean = self.into(data.to(self.into.weight.dtype))
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def to_data(self, z: Tensor) -> Tensor:
        return self.back(z).long()

    def loss(self, data: Tensor) -> LossOutput:
        return LossOutput(self.back(self.encode(data).sample(1)[0]).square().sum(-1))


class LinearEmbedder(Embedder):
    reads = "data"

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(K, H)

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        return self.read(data.to(self.read.weight.dtype))


class AttentionBackbone(Backbone):
    """One projection and one attention over all units, without a mask: only its cost is of interest here."""

    hidden_dim = H

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(H, H)

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        x = self.mix(x).unsqueeze(1)
        return Context(F.scaled_dot_product_attention(x, x, x).squeeze(1))

    def start(self, batch: int, max_units: int) -> tuple[Context, Tensor]:
        return Context(torch.zeros(batch, 1, H)), torch.zeros(batch, 0, H)

    def step(self, x: Tensor, valid: Tensor, state: Tensor) -> tuple[Context, Tensor]:
        x = self.mix(x)
        state = torch.cat([state, x], 1)
        past = state.unsqueeze(1)
        return Context(F.scaled_dot_product_attention(x.unsqueeze(1), past, past).squeeze(1)), state

    def select(self, state: Tensor, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def states(self, x: Tensor, valid: Tensor) -> Tensor:
        raise NotImplementedError


class LinearHead(GenerativeHead):
    info = HeadInfo(sampling="one_step")

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(H, D)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return (self.out(context.h) - target.sample(1)[0]).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        z = self.out(context.h)
        return z + torch.randn(num, *z.shape)


class StatedHead(LinearHead, StatesFlops):
    def forward_flops(self, units: int) -> int:
        return 1000 * units


def model_with(head: GenerativeHead) -> CalmModel:
    return CalmModel(LinearAutoencoder(), LinearEmbedder(), AttentionBackbone(), head, eos_id=9)


def test_linear_layers_by_hand() -> None:
    count = count_flops(model_with(LinearHead()), L)
    assert dict(count.training) == {
        "autoencoder": 2 * L * K * D,  # frozen: forward only
        "embedder": 2 * (2 * L * K * H),  # ids take no gradient, so the backward pass is the weight's only
        "backbone": 3 * (2 * L * H * H + 2 * (2 * L * L * H)),  # scores and mixture over all pairs
        "head": 3 * (2 * L * H * D),
    }
    assert count.total == sum(count.training.values())
    assert dict(count.inference) == {
        "embedder": 2 * K * H,
        "backbone": 2 * H * H + 2 * (2 * L * H),  # one unit that attends to L
        "head": 2 * H * D,
        "autoencoder": 2 * D * K,
    }
    assert count.inference_per_token == sum(count.inference.values()) / K


def test_a_stated_formula_takes_the_place_of_counting_in_training() -> None:
    count = count_flops(model_with(StatedHead()), L)
    assert count.training["head"] == 3 * 1000 * L
    assert count.inference["head"] == 2 * H * D


def test_counting_leaves_nothing_behind() -> None:
    model = model_with(LinearHead())
    wants = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    count_flops(model, L)
    autoencoder_train_flops(model.autoencoder, L, 9)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == wants


def test_stage_one_by_hand_frozen_or_not() -> None:
    autoencoder = LinearAutoencoder()
    by_hand = 2 * (2 * L * K * D) + 3 * (2 * L * D * K)  # the ids that come in take no gradient
    assert autoencoder_train_flops(autoencoder, L, 9) == by_hand
    assert autoencoder_train_flops(autoencoder.requires_grad_(False), L, 9) == by_hand
    assert autoencoder_train_flops(TokenChunks(9, chunk_size=K), L, 9) == 0


def test_rows_of_one_unit_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1"):
        count_flops(model_with(LinearHead()), 1)
