"""Heads that are trained to reach the end of a path in one call draw every cluster, in its share."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from calmkit.heads.consistency import ConsistencyHead
from calmkit.heads.mean_flow import MeanFlowHead
from calmkit.interfaces import Context, EventSpec, GenerativeHead, Posterior

SHARE, STD = 0.7, 0.2
CENTRES = torch.tensor([[1.5, 0.0], [-1.5, 0.0]], dtype=torch.float32)  # times h: mirrored where h is -1


def drawn(head: type[GenerativeHead], steps: int) -> Tensor:
    """2,000 draws of each of two contexts after a short training, mirrored back: `[4000, 2]`."""
    torch.set_default_dtype(torch.float32)
    net = head(1, EventSpec((2,)), depth=1, width=32)
    optimizer = torch.optim.Adam(net.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        h = torch.randn(64, 1).sign()
        mean = h * CENTRES[(torch.rand(64) > SHARE).long()]
        loss = net.loss(Context(h), Posterior(mean, torch.full_like(mean, math.log(STD)))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    h = torch.tensor([[1.0], [-1.0]])
    with torch.no_grad():
        return (h * net.sample(Context(h), 2000)).flatten(0, 1)


@pytest.mark.parametrize("head", [ConsistencyHead, MeanFlowHead])
def test_a_short_training_draws_both_clusters_in_their_shares(head: type[GenerativeHead]) -> None:
    z = drawn(head, 150)
    nearest = torch.cdist(z, CENTRES).min(1)
    share, distance = float((nearest.indices == 0).float().mean()), float(nearest.values.mean())
    assert abs(share - SHARE) < 0.2
    assert distance < 0.6
