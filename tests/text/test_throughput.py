from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.interfaces import Context, GenerativeHead, HeadInfo, IterativeHead, Posterior, SampleOptions
from calmkit.model import CalmModel
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.metrics.throughput import Throughput, measure_throughput, network_calls_per_draw

E = 3


class Ending(GenerativeHead):
    """Every third unit it is asked for ends the text."""

    info = HeadInfo(sampling="autoregressive", events=frozenset({"tokens"}))

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.calls += 1
        return torch.full((num, *context.h.shape[:-1], 2), E if self.calls % 3 == 0 else 1)


class Steps(IterativeHead):
    """Twenty steps unless told otherwise."""

    info = HeadInfo(sampling="iterative", options=frozenset({"num_steps"}))

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        raise NotImplementedError

    def network_calls(self, options: SampleOptions | None = None) -> int | None:
        asked = self.info.accept(options).num_steps
        return None if asked == 7 else asked or 20


class OneStep(Ending):
    info = HeadInfo(sampling="one_step", events=frozenset({"tokens"}))


def model_with(head: GenerativeHead) -> CalmModel:
    autoencoder = TokenChunks(4, chunk_size=2)
    return CalmModel(
        autoencoder, TokensEmbedder(4, autoencoder.event, 2, 4), GRUBackbone(hidden_dim=4), head
    ).eval()


def two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(10.0, 2.0)
    monkeypatch.setattr("calmkit.text.metrics.throughput.time.perf_counter", lambda: next(clock))


def test_texts_that_end_are_followed_by_others_until_the_units_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_seconds(monkeypatch)
    head = Ending()
    result = measure_throughput(
        model_with(head), VoteSampler(temperature=0.5, candidates=5), eos_id=E, units=7
    )
    # 2 units before the clock starts, then 7 units of 2 tokens in 2 seconds, 5 draws each, a call per token
    assert head.calls == 2 + 7
    # all draws are equal, so every unit has the agreement 2 that temperature 1/2 asks for
    assert result == Throughput(7.0, 5.0, 2, 14, 2.0, level=2.0, fallback_share=0.0)
    assert result.network_calls_per_unit == 10


def test_rows_that_ended_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    two_seconds(monkeypatch)
    model = model_with(Ending())

    def ends(context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        ids = torch.ones(num, *context.h.shape[:-1], 2, dtype=torch.long)
        if context.h.shape[0] == 3:
            ids[:, 0] = E  # row 0 ends at once, the two others never do
        return ids

    monkeypatch.setattr(model.head, "sample", ends)
    result = measure_throughput(model, DirectSampler(), eos_id=E, units=4, rows=3)
    assert result.tokens == 2 * (3 + 2 + 2 + 2)
    assert (result.tokens_per_second, result.draws_per_unit) == (9, 1)


def test_network_calls_come_from_the_head() -> None:
    assert network_calls_per_draw(model_with(Ending()), DirectSampler()) == 2  # one per token
    assert network_calls_per_draw(model_with(OneStep()), DirectSampler()) == 1
    assert network_calls_per_draw(model_with(Steps()), DirectSampler()) == 20
    assert network_calls_per_draw(model_with(Steps()), DirectSampler(num_steps=3)) == 3
    assert network_calls_per_draw(model_with(Steps()), DirectSampler(num_steps=7)) is None
    assert Throughput(1.0, 1.0, None, 1, 1.0).network_calls_per_unit is None


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(ValueError, match="units=0"):
        measure_throughput(model_with(Ending()), DirectSampler(), eos_id=E, units=0)
