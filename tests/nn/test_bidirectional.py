"""The layer that reads in both directions."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from calmkit.nn.bidirectional import BidirectionalLayer


def test_attention_by_hand() -> None:
    # No keys, so all visible units weigh the same; values are the normed units, and the MLP gives nothing.
    layer = BidirectionalLayer(2, heads=1, ffn_dim=2)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.norm.weight.fill_(1.0)
        layer.qkv.weight[4:] = torch.eye(2)
        layer.out.weight.copy_(torch.eye(2))
    x = torch.tensor([[[3.0, 1.0], [0.0, 4.0], [9.0, 5.0]]])  # normed: (1, -1), (-1, 1), (1, -1)
    close = {"atol": 1e-5, "rtol": 0.0}  # the norm's epsilon
    mean = torch.tensor([1.0, -1.0]) / 3
    assert_close(layer(x), x + mean, **close)
    visible = torch.tensor([[True, True, False]])
    assert_close(layer(x, visible), x, **close)  # (1, -1) and (-1, 1) cancel


def test_passing_over_is_leaving_out() -> None:
    layer = BidirectionalLayer(8, heads=2, ffn_dim=16)
    x, visible = torch.randn(1, 5, 8), torch.tensor([[True, False, True, True, False]])
    assert_close(layer(x, visible)[visible], layer(x[:, visible[0]])[0])


def test_dropout_is_for_training() -> None:
    layer = BidirectionalLayer(8, heads=2, ffn_dim=16, dropout=0.5)
    x = torch.randn(1, 5, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
