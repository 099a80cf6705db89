from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from calmkit.embedders.tokens import TokensEmbedder
from calmkit.interfaces import EventSpec

EVENT = EventSpec((5,))


def test_formula_layer_by_layer() -> None:
    embedder = TokensEmbedder(8, EVENT, 3, 11, token_dim=2)
    data = torch.randint(11, (2, 4, 3))
    down, _, up, norm = embedder.compress.children()
    assert [tuple(p.shape) for p in (down.weight, down.bias, up.weight, up.bias)] == [
        (16, 6),
        (16,),
        (8, 16),
        (8,),
    ]
    x = torch.cat([embedder.embedding(data[..., k]) for k in range(3)], -1)
    x = F.linear(F.silu(F.linear(x, down.weight, down.bias)), up.weight, up.bias)
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    expected = (x - mean) / (variance + 1e-6).sqrt()
    assert norm.eps == 1e-6
    torch.testing.assert_close(embedder(data, torch.randn(2, 4, 5)), expected)


def test_one_token_is_its_embedding() -> None:
    embedder = TokensEmbedder(8, EVENT, 1, 11)
    assert [tuple(p.shape) for p in embedder.parameters()] == [(11, 8)]
    out = embedder(torch.tensor([[[4], [7]]]), torch.randn(1, 2, 5))
    assert out.equal(embedder.embedding.weight[[4, 7]][None])


def test_paper_size() -> None:
    """CALM-M: embedding 128257 * 1024, then 4096 -> 2048 -> 1024 with bias, LayerNorm 2 * 1024."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in TokensEmbedder(1024, EVENT, 4, 128257).parameters())
    assert parameters == 131_335_168 + 8_390_656 + 2_098_176 + 2048


def test_reads_data_alone_and_in_order() -> None:
    embedder = TokensEmbedder(8, EVENT, 3, 11)
    data = torch.tensor([[1, 2, 3]])
    assert embedder.reads == "data"
    assert embedder(data, torch.randn(1, 5)).equal(embedder(data, torch.randn(1, 5)))
    swapped = embedder(data.flip(-1), torch.randn(1, 5))
    assert not torch.allclose(embedder(data, torch.randn(1, 5)), swapped)


def test_refuses_widths_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"tokens: at chunk_size 1 token_dim must be hidden_dim=8.*got 4"):
        TokensEmbedder(8, EVENT, 1, 11, token_dim=4)
    with pytest.raises(ValueError, match=r"tokens: token_dim .*got 0"):
        TokensEmbedder(8, EVENT, 2, 11, token_dim=0)


def test_one_token_is_compressed_where_asked() -> None:
    embedder = TokensEmbedder(8, EVENT, 1, 11, token_dim=2, always_compress=True)
    assert [tuple(p.shape) for p in embedder.compress.parameters()] == [
        (16, 2),
        (16,),
        (8, 16),
        (8,),
        (8,),
        (8,),
    ]
    data = torch.tensor([[[4], [7]]])
    out = embedder(data, torch.randn(1, 2, 5))
    assert torch.equal(out, embedder.compress(embedder.embedding.weight[[4, 7]])[None])
