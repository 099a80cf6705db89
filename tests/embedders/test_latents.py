from __future__ import annotations

import pytest
import torch

from calmkit.embedders.latents import LatentsEmbedder
from calmkit.interfaces import EventSpec


def test_one_linear_layer_of_the_latent() -> None:
    embedder = LatentsEmbedder(8, EventSpec((5,)))
    z, data = torch.randn(2, 4, 5), torch.randint(11, (2, 4, 3))
    weight, bias = embedder.parameters()
    torch.testing.assert_close(embedder(data, z), torch.einsum("hd,bld->blh", weight, z) + bias)
    assert embedder.reads == "latents"
    assert embedder(data, z).equal(embedder(torch.zeros_like(data), z))


def test_norm_takes_the_scale_away() -> None:
    """Biases start at 0, so only epsilon, 1e-6 beside a variance of about 100 * 5 * .02^2, is left of it."""
    embedder = LatentsEmbedder(8, EventSpec((5,)), norm=True)
    z, data = 10 * torch.randn(2, 4, 5), torch.randint(11, (2, 4, 3))
    torch.testing.assert_close(embedder(data, z), embedder(data, 1000 * z), rtol=1e-2, atol=1e-2)
    assert embedder(data, z).mean(-1).abs().max().item() < 1e-12


@pytest.mark.parametrize("event", [EventSpec((3,), 11), EventSpec((2, 5))])
def test_refuses_what_is_no_latent_vector(event: EventSpec) -> None:
    with pytest.raises(
        ValueError, match=r"latents: the event must be a latent vector, got .*tokens would do"
    ):
        LatentsEmbedder(8, event)
