from __future__ import annotations

import math

import pytest
import torch

from calmkit.nn.time_embedding import INIT_STD, TimeEmbedding, time_features


def test_features_by_hand() -> None:
    features = time_features(torch.tensor([0.0, 3.0]), dim=4, max_period=100.0)  # w = 1 and 100^(-1/2) = 0.1
    expected = [[1, 1, 0, 0], [math.cos(3), math.cos(0.3), math.sin(3), math.sin(0.3)]]
    torch.testing.assert_close(features, torch.tensor(expected))


def test_the_middle_wave_of_256_is_a_hundred_times_slower_than_the_first() -> None:
    features = time_features(torch.tensor([2.0]))
    assert features.shape == (1, 256)
    assert features[0, 64] == pytest.approx(math.cos(0.02))  # 10000^(-64/128)
    assert features[0, 128 + 64] == pytest.approx(math.sin(0.02))


def test_half_precision_times_are_computed_in_float32() -> None:
    features = time_features(torch.tensor([500.0], dtype=torch.bfloat16))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, time_features(torch.tensor([500.0], dtype=torch.float32)))
    embedding = TimeEmbedding(8).to(torch.bfloat16)
    assert embedding(torch.tensor([0.5])).dtype == torch.bfloat16  # that of the weights


def test_t_is_read_in_thousandths() -> None:
    embedding = TimeEmbedding(8)
    features = time_features(torch.tensor([250.0]))
    expected = embedding.second(torch.nn.functional.silu(embedding.first(features)))
    torch.testing.assert_close(embedding(torch.tensor([0.25])), expected)


def test_quantize_cuts_to_whole_thousandths() -> None:
    cut = TimeEmbedding(8, quantize=True)
    whole, above, next_ = cut(torch.tensor([0.123001, 0.1239, 0.124001]))
    torch.testing.assert_close(whole, above, rtol=0, atol=0)
    assert not torch.allclose(above, next_)
    smooth = TimeEmbedding(8)
    smooth.load_state_dict(cut.state_dict())
    whole, above = smooth(torch.tensor([0.123001, 0.1239]))
    assert not torch.allclose(whole, above)


def test_initialisation() -> None:
    embedding = TimeEmbedding(256)
    for layer in (embedding.first, embedding.second):
        # 65536 normal weights: the estimate of their std is within 0.28 % (one sigma), so 2 % is 7 sigma
        assert layer.weight.std().item() == pytest.approx(INIT_STD, rel=0.02)
        assert not layer.bias.any()


def test_a_scale_of_one_reads_timesteps() -> None:
    by_time = TimeEmbedding(8)
    by_step = TimeEmbedding(8, scale=1.0)
    by_step.load_state_dict(by_time.state_dict())
    t = torch.tensor([0.0, 0.25, 1.0])
    assert torch.equal(by_step(1000 * t), by_time(t))


def test_a_time_that_float64_holds_a_hair_below_a_thousandth_is_that_thousandth() -> None:
    embedding = TimeEmbedding(8, quantize=True)
    below = torch.tensor([0.65]) - 1e-16
    assert (below * 1000).floor().item() == 649
    assert torch.equal(embedding(below), embedding(torch.tensor([0.6504])))
