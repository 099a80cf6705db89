from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from calmkit.nn.adaln import AdaLNMLP
from calmkit.nn.along import ALONG_PASSES, along


def test_a_value_and_its_derivative_by_hand() -> None:
    """f(x, y) = x^2 y at (3, 5) in the direction (1, 2): 45, and 2 * 3 * 5 * 1 + 3^2 * 2 = 48."""
    x, y = torch.tensor([3.0]), torch.tensor([5.0])
    value, derivative = along(lambda x, y: x**2 * y, (x, y), (torch.tensor([1.0]), torch.tensor([2.0])))
    assert (value.item(), derivative.item()) == (45.0, 48.0)


def random_network() -> AdaLNMLP:
    network = AdaLNMLP(3, 4, 8, 2, time_scale=1.0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_a_network_s_derivative_is_that_of_small_steps_and_takes_gradients() -> None:
    network = random_network()
    c, z, t, v = torch.randn(5, 8), torch.randn(2, 5, 3), torch.rand(2, 5), torch.randn(2, 5, 3)

    def field(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return network(z, t, c)

    value, derivative = along(field, (z, t), (v, torch.ones_like(t)))
    assert torch.equal(value, field(z, t))
    step = 1e-5
    ahead, behind = field(z + step * v, t + step), field(z - step * v, t - step)
    torch.testing.assert_close(derivative, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)
    assert derivative.abs().min() > 1e-4  # or there were nothing to agree on
    derivative.square().sum().backward()  # a gradient of a derivative
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.blocks.parameters())


def test_it_costs_the_passes_that_it_says() -> None:
    network, c = random_network(), torch.randn(5, 8)
    z, t = torch.randn(2, 5, 3), torch.rand(2, 5)
    with FlopCounterMode(display=False) as once:
        network(z, t, c)
    with FlopCounterMode(display=False) as counter:
        along(lambda z, t: network(z, t, c), (z, t), (z, t))
    assert counter.get_total_flops() == ALONG_PASSES * once.get_total_flops()


def test_warnings_of_the_function_are_heard() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        warnings.warn("look out", UserWarning, stacklevel=2)
        return x

    with pytest.warns(UserWarning, match="look out"):
        along(function, (torch.ones(1),), (torch.ones(1),))
