"""Given vectors in front of a row."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from calmkit.conditioners.prefix import PrefixConditioner

H, SHAPE = 4, (3, 2)


def test_vectors_are_projected_by_hand_and_dropped_ones_replaced() -> None:
    part = PrefixConditioner(H, SHAPE)
    vectors, drop = torch.randn(2, *SHAPE), torch.tensor([False, True])
    prefix = part({"prefix": vectors}, drop)
    assert_close(prefix[0], vectors[0] @ part.project.weight.T + part.position)
    assert torch.equal(prefix[1], part.null)


def test_a_dropped_row_teaches_nothing_of_its_vectors() -> None:
    part, vectors = PrefixConditioner(H, SHAPE), torch.randn(2, *SHAPE)
    vectors[1] = math.nan
    prefix = part({"prefix": vectors}, torch.tensor([False, True]))
    prefix.square().sum().backward()
    for parameter in part.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_without_a_condition_every_row_gets_the_null_one() -> None:
    part = PrefixConditioner(H, SHAPE)
    for drop in (torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)):
        assert torch.equal(part({}, drop), part.null.expand(2, -1, -1))


def test_vectors_of_another_shape_are_refused() -> None:
    part, drop = PrefixConditioner(H, SHAPE), torch.zeros(2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"prefix: vectors have shape \(2, 5, 2\); \(2, 3, 2\) would do"):
        part({"prefix": torch.randn(2, 5, 2)}, drop)
    with pytest.raises(ValueError, match=r"prefix: prefix_shape is \(3,\); vectors and width would do"):
        PrefixConditioner(H, (3,))
    with pytest.raises(ValueError, match=r"prefix: drop must be in \[0, 1\), got -0.1"):
        PrefixConditioner(H, SHAPE, drop=-0.1)
