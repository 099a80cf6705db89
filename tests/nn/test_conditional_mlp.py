"""The network of the heads without noise."""

from __future__ import annotations

import pytest
import torch

from calmkit.nn.conditional_mlp import ConditionalMLP


def test_blocks_are_residual() -> None:
    """With the last layer of every block at 0, the blocks vanish."""
    network, h = ConditionalMLP(4, 3, depth=3, width=8), torch.randn(2, 5, 4)
    straight = network.write(network.write_norm(network.read_norm(network.read(h))))
    assert not torch.allclose(network(h), straight)
    for block in network.blocks:
        torch.nn.init.zeros_(block.get_submodule("down").get_parameter("weight"))
    torch.testing.assert_close(network(h), straight)


def test_every_unit_on_its_own() -> None:
    network, h = ConditionalMLP(4, 3, depth=2), torch.randn(2, 5, 4)
    torch.testing.assert_close(network(h)[1, 3], network(h[1, 3]))


@pytest.mark.parametrize("width", [None, 8])
def test_weights_as_counted(width: int | None) -> None:
    """Per block 6 W^2 in matrices and 2 W in the norm; without a width, W = H = 4."""
    count = [sum(p.numel() for p in ConditionalMLP(4, 3, depth=d, width=width).parameters()) for d in (1, 2)]
    inside = width or 4
    assert count[1] - count[0] == 6 * inside**2 + 2 * inside
