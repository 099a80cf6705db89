from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from calmkit.nn import adaln
from calmkit.nn.adaln import AdaLNBlock, AdaLNMLP, draw_blocks, modulate


def alive(net: nn.Module) -> None:
    """Weights as after training: nothing is zero."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)


def test_modulate_by_hand() -> None:
    x, shift, scale = (
        torch.tensor([[[-1.0, 2.0]]]),
        torch.tensor([[[0.5, 0.0]]]),
        torch.tensor([[[1.0, -1.0]]]),
    )
    assert modulate(x, shift, scale).tolist() == [[[-1.5, 0.0]]]


def test_block_by_hand() -> None:
    block = AdaLNBlock(2)
    for layer in (block.up, block.down):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(block.modulation.weight)
    # shift 0.5, scale 1, gate 2: x = (1, 3) is normalised to (-1, 1), modulated to (-1.5, 2.5)
    block.modulation.bias.data = torch.tensor([0.5, 0.5, 1.0, 1.0, 2.0, 2.0])
    out = block(torch.tensor([[[1.0, 3.0]]]), torch.zeros(1, 1, 2))
    expected = [1 + 2 * -1.5 / (1 + math.exp(1.5)), 3 + 2 * 2.5 / (1 + math.exp(-2.5))]
    assert out[0, 0].tolist() == pytest.approx(expected, abs=1e-5)  # the norm's eps moves it by 1e-6


def test_built_net_gives_zero_and_its_blocks_are_the_identity() -> None:
    net = AdaLNMLP(3, 5, 8, 2)
    z_t, t, c = torch.randn(4, 6, 3), torch.rand(4, 6), net.condition(torch.randn(6, 5))
    assert not net(z_t, t, c).any()
    x, y = torch.randn(4, 6, 8), torch.randn(4, 6, 8)
    assert torch.equal(net.blocks[0](x, y), x)


def test_no_gradient_is_missing_at_first_and_none_is_zero_after_three_steps() -> None:
    net = AdaLNMLP(3, 5, 8, 2)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    z_t, t, h, target = torch.randn(4, 6, 3), torch.rand(4, 6), torch.randn(6, 5), torch.randn(4, 6, 3)
    for step in range(4):
        optimizer.zero_grad()
        (net(z_t, t, net.condition(h)) - target).square().mean().backward()
        if step == 0:
            assert all(parameter.grad is not None for parameter in net.parameters())
        if step < 3:
            optimizer.step()
    assert all(parameter.grad.any() for parameter in net.parameters())


def test_one_time_for_all_rows_equals_the_same_time_in_each_row() -> None:
    net = AdaLNMLP(3, 5, 8, 2)
    alive(net)
    z_t, c = torch.randn(4, 6, 3), net.condition(torch.randn(6, 5))
    shared = net(z_t, torch.tensor([[0.3]]), c)
    torch.testing.assert_close(shared, net(z_t, torch.full((4, 6), 0.3), c))


def test_rows_do_not_see_each_other_and_each_sees_its_time_and_condition() -> None:
    net = AdaLNMLP(3, 5, 8, 2)
    alive(net)
    z_t, t, h = torch.randn(4, 6, 3), torch.rand(4, 6), torch.randn(6, 5)
    out = net(z_t, t, net.condition(h))
    torch.testing.assert_close(net(z_t[1:2, 2:3], t[1:2, 2:3], net.condition(h[2:3])), out[1:2, 2:3])
    h[2] += 1
    changed = (net(z_t, t, net.condition(h)) != out).any(-1)
    assert changed[:, 2].all()
    assert changed.sum() == 4
    t[3, 0] = 1 - t[3, 0]
    assert (net(z_t, t, net.condition(h)) != out).any(-1)[3, 0]


def test_initialisation_and_size() -> None:
    net = AdaLNMLP(3, 5, 64, 2)
    biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
    assert not any(bias.any() for bias in biases)
    for layer in (net.input_proj, net.cond_embed, net.blocks[0].up):
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))  # Xavier, uniform
        assert 0.9 * bound < layer.weight.abs().max() <= bound
    # weights: up and down W^2 each, modulation 3 W^2; biases W + W + 3 W; the norm 2 W
    assert sum(p.numel() for p in net.blocks[0].parameters()) == 5 * 64**2 + 7 * 64


def test_draw_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaln, "MAX_ROWS", 10)
    assert draw_blocks(7, 3) == [3, 3, 1]
    assert draw_blocks(2, 3) == [2]
    assert draw_blocks(2, 50) == [1, 1]  # more units than rows: one draw at a time
    assert draw_blocks(7, 0) == [7]
