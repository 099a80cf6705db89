from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from calmkit.text.metrics.ngram import NGramModel, NotCounted
from calmkit.text.metrics.rollout import eligible_units

STREAM = np.array([0, 1, 1, 2, 0, 1, 2, 2, 0, 1, 0, 1, 1], dtype=np.uint16)


def chance(model: NGramModel, past: tuple[int, ...], token: int) -> float:
    """p(token | past), with as much of the past as there is and the order can use."""
    context = past[len(past) - min(len(past), model.order - 1) :]
    return model.probabilities[len(context)][(*context, token)].item()


def test_unigram_by_hand() -> None:
    # N(0)=4, N(1)=6, N(2)=3, T=3, N=13: (N(x) + 3/3) / 16
    (table,) = NGramModel.count(STREAM, 3, 1).probabilities
    assert torch.allclose(table, torch.tensor([5, 7, 4]) / 16)
    # an id that never came keeps (3/4) / 16, one quarter of the mass of the three kinds
    (table,) = NGramModel.count(STREAM, 4, 1).probabilities
    assert torch.allclose(table, torch.tensor([4.75, 6.75, 3.75, 0.75]) / 16)


def test_bigram_by_hand() -> None:
    # after 2: once 2, twice 0, N=3, T=2; the lower order is 5/16, 7/16, 4/16
    table = NGramModel.count(STREAM, 3, 2).probabilities[1]
    assert torch.allclose(table[2], torch.tensor([2 + 2 * 5 / 16, 2 * 7 / 16, 1 + 2 * 4 / 16]) / 5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one_even_after_an_unseen_context(order: int) -> None:
    model = NGramModel.count(STREAM, 4, order)  # 3 never occurs
    for table in model.probabilities:
        assert torch.allclose(table.sum(-1), torch.ones(()))
        assert bool((table > 0).all())
    if order == 3:
        assert torch.allclose(model.probabilities[2][3], model.probabilities[1])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_collisions_equal_the_sum_over_all_continuations(order: int) -> None:
    model = NGramModel.count(STREAM, 3, order)
    for length, collisions in enumerate(model.collisions):
        for context in itertools.product(range(3), repeat=length):
            for n in range(1, 5):
                total = 0.0
                for tokens in itertools.product(range(3), repeat=n):
                    text = (*context, *tokens)
                    total += (
                        np.prod([chance(model, text[:i], text[i]) for i in range(length, len(text))]) ** 2
                    )
                assert collisions[(*context, n - 1)].item() == pytest.approx(total)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_terms_stand_at_the_positions_of_a_chunk_model(order: int, chunk_size: int) -> None:
    model = NGramModel.count(STREAM, 3, order)
    chunks = torch.randint(3, (2, 7, chunk_size))
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, :2] = False  # a row filled on its left
    eligible = eligible_units(valid, chunk_size)
    accuracy, collision, rows = model.brier_terms(chunks, valid, eligible)
    assert rows.tolist() == eligible.nonzero()[:, 0].tolist()
    for at, (row, unit) in enumerate(eligible.nonzero().tolist()):
        text = tuple(chunks[row][valid[row]].flatten().tolist())  # real tokens only
        begin = (unit - (~valid[row]).sum().item()) * chunk_size
        chances = [chance(model, text[: begin + j], text[begin + j]) for j in range(4)]
        assert accuracy[at].tolist() == pytest.approx(np.cumprod(chances).tolist())
        past = text[max(0, begin - order + 1) : begin]
        assert collision[at].tolist() == model.collisions[len(past)][past].tolist()


def test_counting_in_blocks_loses_no_tuple(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, 5, 101)
    whole = NGramModel.count(ids, 5, 3)
    monkeypatch.setattr("calmkit.text.metrics.ngram.TOKENS_PER_BLOCK", 7)
    for one, other in zip(whole.probabilities, NGramModel.count(ids, 5, 3).probabilities, strict=True):
        assert torch.equal(one, other)


def test_no_text_gives_the_uniform_model() -> None:
    model = NGramModel.count(np.array([], dtype=np.uint16), 4, 3)
    for table in model.probabilities:
        assert torch.equal(table, torch.full_like(table, 0.25))


def test_refusals_say_what_would_do() -> None:
    with pytest.raises(NotCounted, match="Up to 8192"):
        NGramModel.count(STREAM, 8193, 2)
    with pytest.raises(NotCounted, match="Up to 512"):
        NGramModel.count(STREAM, 513, 3)
    with pytest.raises(ValueError, match="got 4"):
        NGramModel.count(STREAM, 3, 4)
    with pytest.raises(ValueError, match="over 2 tokens got ids from 0 to 2"):
        NGramModel.count(STREAM, 2, 2)


def test_a_tensor_counts_like_an_array() -> None:
    ids: Tensor = torch.from_numpy(STREAM.astype(np.int64))
    assert torch.equal(
        NGramModel.count(ids, 3, 2).probabilities[1], NGramModel.count(STREAM, 3, 2).probabilities[1]
    )
