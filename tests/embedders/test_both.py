"""Both: the sum of the two embedders, by hand, and what it costs."""

from __future__ import annotations

import torch

from calmkit.embedders.both import BothEmbedder
from calmkit.interfaces import EventSpec


def test_it_is_the_sum_of_tokens_and_latents() -> None:
    both = BothEmbedder(6, EventSpec((3,)), 2, 5)
    ids, z = torch.randint(5, (4, 2)), torch.randn(4, 3)
    assert torch.equal(both(ids, z), both.tokens(ids, z) + both.latents(ids, z))
    apart = both(ids, z) - both(ids, torch.zeros_like(z))
    assert torch.allclose(apart, z @ both.latents.project.weight.T)


def test_flops_by_hand() -> None:
    """Tokens: 2 * (12 * 12 + 12 * 6) = 432; latents: 2 * 3 * 6 = 36. The tokens pay a whole backward pass."""
    both = BothEmbedder(6, EventSpec((3,)), 2, 5)
    assert both.forward_flops(7) == 7 * (432 + 36)
    assert both.training_flops(7) == 7 * (3 * 432 + 2 * 36)
    assert both.step_flops(100) == 432 + 36
