"""The head on its own: its contract, its density and its door."""

from __future__ import annotations

import math
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from calmkit_laplace_head import LaplaceHead

from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions
from calmkit.registry import make_manager
from calmkit.testing import check_head


def built(hidden_dim: int, latent_dim: int, loc: list[float], log_scale: list[float]) -> LaplaceHead:
    """A head that answers every condition with these numbers."""
    head = LaplaceHead(hidden_dim, EventSpec((latent_dim,)), min_scale=1e-12)
    torch.nn.init.zeros_(head.project.weight)
    head.project.bias.data = torch.tensor([*loc, *log_scale])
    return head


def test_contract() -> None:
    check_head(LaplaceHead)


def test_density_by_hand() -> None:
    # loc (1, -2), scale (1, 2), z (3, -2): exp(-|3 - 1| / 1) / (2 * 1) * exp(0) / (2 * 2) = exp(-2) / 8
    head = built(3, 2, loc=[1.0, -2.0], log_scale=[0.0, math.log(2.0)])
    z = torch.tensor([3.0, -2.0])
    log_prob = head.log_prob(Context(torch.randn(3)), z)
    torch.testing.assert_close(log_prob, torch.tensor(-2.0 - math.log(8.0)))
    loss = head.loss(Context(torch.randn(3)), Posterior(z))
    torch.testing.assert_close(loss, -log_prob)


def test_temperature_multiplies_the_scale() -> None:
    head = built(3, 1, loc=[5.0], log_scale=[0.0])
    context = Context(torch.zeros(3))
    torch.manual_seed(0)
    warm = head.sample(context, 100)
    torch.manual_seed(0)
    cold = head.sample(context, 100, SampleOptions(temperature=0.25))
    torch.testing.assert_close(cold - 5, 0.25 * (warm - 5), rtol=0, atol=1e-5)


def test_an_impossible_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"laplace: min_scale must be above 0, got -1.0"):
        LaplaceHead(3, EventSpec((2,)), min_scale=-1.0)


def test_the_entry_point_of_pyproject_opens_the_door() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    ((name, value),) = tomllib.loads(text)["project"]["entry-points"]["calmkit"].items()
    manager = make_manager([EntryPoint(name, value, "calmkit")])
    assert manager.rejected == []
    assert manager.find("heads", "laplace").cls is LaplaceHead
