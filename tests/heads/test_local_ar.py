"""An exact distribution over chunks: it sums to one, looks back only, and is the one that draws follow."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from calmkit.heads import local_ar
from calmkit.heads.local_ar import LocalARHead
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions
from calmkit.nn.past import KeyValues

H = 12


def make(chunk_size: int, vocab_size: int = 3, std: float = 0.5, **settings: int) -> LocalARHead:
    head = LocalARHead(H, EventSpec((chunk_size,), vocab_size), heads=2, **settings)
    for parameter in head.parameters():  # the small initial weights would leave it uniform
        torch.nn.init.normal_(parameter, std=std)
    return head


def all_chunks(vocab_size: int, chunk_size: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(vocab_size), repeat=chunk_size)))


def p_value(ids: Tensor, p: Tensor, vocab_size: int) -> float:
    """Chi-square test of draws `[num, K]` against the probabilities of `all_chunks`."""
    place = vocab_size ** torch.arange(ids.shape[-1] - 1, -1, -1)
    counts = torch.bincount((ids * place).sum(-1), minlength=len(p))
    expected = len(ids) * p
    assert expected.min() > 5  # the law of the statistic is asymptotic
    statistic = ((counts - expected) ** 2 / expected).sum()
    return torch.special.gammaincc(torch.tensor((len(p) - 1) / 2), statistic / 2).item()


def test_categorical_probabilities_of_27_chunks_sum_to_one() -> None:
    head, h = make(3), torch.randn(2, H)
    chunks = all_chunks(3, 3)  # 27
    context = Context(h.unsqueeze(1).expand(2, 27, H))
    p = head.log_prob(context, chunks.expand(2, 27, 3)).exp()
    assert_close(p.sum(-1), torch.ones(2))
    assert p.std() > 0.01  # not merely uniform


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_categorical_uniform_logits_cost_ln_v_nats_per_token(chunk_size: int) -> None:
    """Of 8 ids: ln 8 = 2.0794415 nats, which is log2 8 = 3 bits, per token."""
    head = make(chunk_size, 8)
    torch.nn.init.zeros_(head.to_logits.weight)
    loss = head.loss(Context(torch.randn(5, H)), Posterior(torch.randint(8, (5, chunk_size))))
    assert_close(loss / chunk_size, torch.full((5,), 2.0794415), atol=5e-8, rtol=0)
    assert_close(loss / chunk_size / math.log(2), torch.full((5,), 3.0))


def test_categorical_one_token_is_the_softmax_baseline() -> None:
    head, h, ids = make(1, 5), torch.randn(2, 4, H), torch.randint(5, (2, 4, 1))
    assert {name: p.shape for name, p in head.named_parameters()} == {"to_logits.weight": (5, H)}
    logits = h @ head.to_logits.weight.T
    expected = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(2, 4)
    assert_close(head.loss(Context(h), Posterior(ids)), expected)


def test_categorical_a_token_changes_later_logits_only() -> None:
    head, h, ids = make(4), torch.randn(6, H), torch.randint(3, (6, 4))
    logits = head.logits(h, ids)
    for j in range(4):
        other = ids.clone()
        other[:, j] = (other[:, j] + 1) % 3
        changed = head.logits(h, other)
        assert_close(changed[:, : j + 1], logits[:, : j + 1], atol=1e-12, rtol=0)
        assert j == 3 or not torch.isclose(changed[:, j + 1 :], logits[:, j + 1 :]).all(-1).any()


def test_log_prob_is_the_chain_rule_of_its_logits() -> None:
    head, h, ids = make(3), torch.randn(2, 5, H), torch.randint(3, (2, 5, 3))
    log_p = head.logits(h.flatten(0, 1), ids.flatten(0, 1)).log_softmax(-1).view(2, 5, 3, 3)
    by_hand = sum(log_p[:, :, j].gather(-1, ids[:, :, j : j + 1]).squeeze(-1) for j in range(3))
    assert_close(head.log_prob(Context(h), ids), by_hand)


@torch.no_grad()
def test_steps_inside_a_chunk_equal_the_parallel_pass() -> None:
    head, h, ids = make(4), torch.randn(6, H), torch.randint(3, (6, 4))
    assert head.local is not None
    line = KeyValues(depth=2, room=4)
    for place in range(4):
        x = head.local.places(h)[:, place]
        x = x if place == 0 else x + head.local.embed(ids[:, place - 1])
        features = head.local.step(x.unsqueeze(1), place, line)
        assert_close(features, head.local(h, ids)[:, place], atol=1e-12, rtol=0)


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("block", [2**24, 64])
def test_draws_follow_log_prob(chunk_size: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # two units at once: draws of one would show among those of the other; false alarms: 8e-7 per case
    monkeypatch.setattr(local_ar, "BLOCK", block * (1000 if chunk_size == 3 else 1))
    head, h = make(chunk_size), torch.randn(2, H)
    ids = head.sample(Context(h), 20_000)
    assert ids.dtype == torch.long
    chunks = all_chunks(3, chunk_size)
    for unit in range(2):
        p = head.log_prob(Context(h[unit].expand(len(chunks), H)), chunks).exp()
        assert p_value(ids[:, unit], p, 3) > 4e-7


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_sharpens_the_softmax(temperature: float) -> None:
    # p^(1/T) / Z; false alarms: 4e-7 per case
    head, h = make(1, 4, std=0.3), torch.randn(1, H)
    ids = head.sample(Context(h), 20_000, SampleOptions(temperature=temperature))[:, 0]
    p = head.log_prob(Context(h.expand(4, H)), all_chunks(4, 1)).exp()
    sharp = p ** (1 / temperature)
    assert p_value(ids, sharp / sharp.sum(), 4) > 4e-7
    assert p_value(ids, p, 4) < 1e-9  # the test can tell


def test_temperature_acts_on_every_token() -> None:
    # prod_j p(token_j | before)^(1/T) / Z_j; false alarms: 4e-7
    head, h, chunks = make(2, std=0.4), torch.randn(1, H), all_chunks(3, 2)
    ids = head.sample(Context(h), 20_000, SampleOptions(temperature=0.7))[:, 0]
    log_p = (head.logits(h.expand(9, H), chunks) / 0.7).log_softmax(-1)
    p = log_p.gather(-1, chunks.unsqueeze(-1)).sum((1, 2)).exp()
    assert p_value(ids, p, 3) > 4e-7


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("units", [(), (4,), (2, 3), (0,)])
def test_shapes_and_generator(chunk_size: int, units: tuple[int, ...]) -> None:
    head, context = make(chunk_size), Context(torch.randn(*units, H))
    draws = [
        head.sample(context, 5, SampleOptions(generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    assert draws[0].shape == (5, *units, chunk_size)
    assert torch.equal(draws[0], draws[1])
    assert units == (0,) or not torch.equal(draws[0], draws[2])
    assert head.log_prob(context, draws[0][0]).shape == units


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_every_parameter_gets_a_gradient(chunk_size: int) -> None:
    head = LocalARHead(H, EventSpec((chunk_size,), 3))
    ids = torch.randint(3, (8, chunk_size))
    head.loss(Context(torch.randn(8, H)), Posterior(ids)).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_half_precision_gives_float32_losses(chunk_size: int) -> None:
    head, h, ids = make(chunk_size, std=0.2), torch.randn(8, H), torch.randint(3, (8, chunk_size))
    exact = head.loss(Context(h), Posterior(ids))
    half = head.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = half.loss(Context(h.float()), Posterior(ids))
        assert half.sample(Context(h.bfloat16()), 2).shape == (2, 8, chunk_size)
    half = head.bfloat16()
    pure = half.loss(Context(h.bfloat16()), Posterior(ids))
    assert half.sample(Context(h.bfloat16()), 2).max() < 3
    assert mixed.dtype == pure.dtype == torch.float32
    # features of size 1 in 8 bits, summed over 12: an error of a few hundredths in each of K logits
    assert_close(mixed.double(), exact, atol=0.05 * chunk_size, rtol=0)
    assert_close(pure.double(), exact, atol=0.05 * chunk_size, rtol=0)


def test_width_is_half_of_h_in_whole_heads() -> None:
    head = LocalARHead(50, EventSpec((2,), 3), heads=4)  # 25, rounded up to a multiple of 8
    assert head.to_logits.in_features == 32


@pytest.mark.parametrize(
    ("event", "settings", "says"),
    [
        (EventSpec((4,)), {}, "token_chunks would do"),
        (EventSpec((4,), 3), {"width": 20, "heads": 4}, "width .* got 20 with 4 heads; 24 would do"),
        (EventSpec((4,), 3), {"depth": 0}, "depth must be at least 1, got 0"),
    ],
)
def test_refuses(event: EventSpec, settings: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LocalARHead(H, event, **settings)


def test_refuses_values_that_are_not_ids() -> None:
    with pytest.raises(ValueError, match="must be integer ids"):
        make(2).log_prob(Context(torch.randn(3, H)), torch.zeros(3, 2))
