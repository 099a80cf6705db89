"""The shared network of the autoencoders: two numbers by hand, then the laws of its layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from calmkit.nn import chunk_mlp
from calmkit.nn.chunk_mlp import ChunkMLP, chunk_cross_entropy
from calmkit.nn.swiglu import SwiGLUBlock


def make(vocab_size: int = 7, latent_dim: int = 5, stats: int = 2, **settings: Any) -> ChunkMLP:
    sizes = {"chunk_size": 3, "hidden_dim": 4, "ffn_dim": 6, "encoder_layers": 2, "decoder_layers": 2}
    net = ChunkMLP("test", vocab_size, latent_dim, stats, **{**sizes, **settings})
    for parameter in net.parameters():  # the small initial weights would hide a missing layer
        torch.nn.init.normal_(parameter, std=0.5)
    return net


def tiny() -> ChunkMLP:
    """V = 3, K = 2, W = 2, D = 1, no layers, and weights to count with; the mask row is a trap."""
    net = make(3, 1, 1, chunk_size=2, hidden_dim=2, encoder_layers=0, decoder_layers=0)
    weights = {
        "embedding.weight": [[1, 0], [0, 1], [1, 1], [100, 100]],
        "encoder.squeeze.weight": [[3, 0, 0, 0], [0, 0, 0, 4]],  # of the first token's x and the second's y
        "encoder.squeeze.bias": [0, 0],
        "encoder.norm.weight": [1, 1],
        "encoder.out.weight": [[1, 1]],
        "encoder.out.bias": [0.5],
        "decoder.into.weight": [[1], [2]],
        "decoder.into.bias": [0, 0],
        "decoder.expand.weight": [[1, 0], [0, 1], [-1, 0], [0, 1]],  # token 0: (x, y); token 1: (-x, y)
        "decoder.expand.bias": [0, 0, 0, 0],
        "decoder.norm.weight": [1, 1],
    }
    net.load_state_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()})
    return net


def test_encoder_by_hand() -> None:
    """Ids (0, 1) are (1, 0) and (0, 1): squeezed (3, 4), of root mean square sqrt(12.5); out 7 / 3.5355 + .5.

    Ids (1, 0) squeeze to (0, 0), and only the bias is left: the places of a chunk are told apart.
    """
    said = tiny().read(torch.tensor([[0, 1], [1, 0]]))
    assert_close(said, torch.tensor([[2.479899], [0.5]]), atol=1e-6, rtol=0)  # the norm's eps takes 1e-7


def test_decoder_by_hand() -> None:
    """z = 1 becomes (1, 2), then (1, 2) and (-1, 2), each over sqrt(2.5): .632456 and 1.264911.

    Products with the rows (1, 0), (0, 1), (1, 1); the mask row would win, and takes no part.
    """
    net, z = tiny(), torch.ones(1)
    expected = [[0.632456, 1.264911, 1.897367], [-0.632456, 1.264911, 0.632456]]
    assert_close(net.logits(z), torch.tensor(expected), atol=1e-6, rtol=0)
    assert net.predict(z).tolist() == [2, 1]


def by_formula(net: ChunkMLP, ids: Tensor) -> Tensor:
    """The encoder word for word: half of the layers per token, squeeze, half on the chunk, norm, out."""

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def layer(x: Tensor, block: SwiGLUBlock) -> Tensor:
        y = norm(x, block.norm.weight)
        gate, up = y @ block.mlp.gate.weight.T, y @ block.mlp.up.weight.T
        return x + (gate * gate.sigmoid() * up) @ block.mlp.down.weight.T

    encoder, out = net.encoder, []
    for chunk in ids.reshape(-1, ids.shape[-1]):
        tokens = net.embedding.weight[chunk]
        for block in encoder.tokens:
            tokens = layer(tokens, block)
        x = tokens.reshape(-1) @ encoder.squeeze.weight.T + encoder.squeeze.bias
        for block in encoder.chunk:
            x = layer(x, block)
        out.append(norm(x, encoder.norm.weight) @ encoder.out.weight.T + encoder.out.bias)
    return torch.stack(out).reshape(*ids.shape[:-1], -1)


@pytest.mark.parametrize(
    ("layers", "odd_layer", "per_token", "on_chunk"),
    [(0, "chunk", 0, 0), (2, "chunk", 1, 1), (3, "chunk", 1, 2), (3, "unused", 1, 1), (4, "unused", 2, 2)],
)
def test_layers_are_halved_between_token_and_chunk(
    layers: int, odd_layer: str, per_token: int, on_chunk: int
) -> None:
    net = make(encoder_layers=layers, decoder_layers=layers, odd_layer=odd_layer)
    for half in (net.encoder, net.decoder):
        assert (len(half.tokens), len(half.chunk)) == (per_token, on_chunk)
    ids = torch.randint(7, (2, 4, 3))
    assert_close(net.read(ids), by_formula(net, ids), atol=1e-12, rtol=0)


def test_an_unused_layer_changes_nothing_and_asks_for_no_gradient() -> None:
    """Its weights are kept, for the official checkpoints, and read by nobody."""
    net = make(odd_layer="unused", encoder_layers=3, decoder_layers=3)
    ids, z = torch.randint(7, (4, 3)), torch.randn(4, 5)
    before = net.read(ids), net.logits(z)
    kept = {name: p for name, p in net.named_parameters() if "unused" in name}
    assert {name.split(".")[0] for name in kept} == {"encoder", "decoder"}
    with torch.no_grad():
        for parameter in kept.values():
            parameter.fill_(9)
    assert torch.equal(net.read(ids), before[0])
    assert torch.equal(net.logits(z), before[1])
    assert not any(p.requires_grad for p in kept.values())
    assert all(p.requires_grad for name, p in net.named_parameters() if name not in kept)


def test_chunks_are_independent_for_any_leading_dimensions() -> None:
    net, ids, z = make(), torch.randint(7, (2, 4, 3)), torch.randn(2, 4, 5)
    read, logits = net.read(ids), net.logits(z)
    assert (read.shape, logits.shape) == ((2, 4, 10), (2, 4, 3, 7))
    ids[1, 2, 0] = (ids[1, 2, 0] + 1) % 7
    z[1, 2] += 1
    assert (net.read(ids) != read).any(-1).nonzero().tolist() == [[1, 2]]
    assert (net.logits(z) != logits).flatten(2).any(-1).nonzero().tolist() == [[1, 2]]
    assert_close(net.read(ids[0, 0]), read[0, 0])
    assert net.read(ids[:0]).shape == (0, 4, 10)
    assert net.predict(z[:0]).shape == (0, 4, 3)


def test_one_embedding_reads_and_writes() -> None:
    """A scaled row of it scales the id's logit, and moves what the encoder says of that id."""
    net, ids, z = make(), torch.tensor([[4, 4, 4]]), torch.randn(6, 5)
    read, logits = net.read(ids), net.logits(z)
    with torch.no_grad():
        net.embedding.weight[4] *= 2
    assert_close(net.logits(z)[..., 4], 2 * logits[..., 4])
    assert_close(net.logits(z)[..., :4], logits[..., :4])
    assert (net.read(ids) != read).all()


@pytest.mark.parametrize(("mask_id", "rows", "read_as"), [(None, 8, 7), (0, 7, 0), (6, 7, 6)])
def test_dropped_tokens_are_read_as_the_mask(mask_id: int | None, rows: int, read_as: int) -> None:
    net, ids = make(mask_id=mask_id), torch.randint(7, (100, 100, 3))
    assert net.embedding.weight.shape == (rows, 4)
    assert net.logits(torch.zeros(5)).shape == (3, 7)
    dropped = net.drop_tokens(ids, 0.3)
    changed = dropped != ids
    assert dropped[changed].eq(read_as).all()
    # Of 30,000 ids .3 are dropped, with a standard error of .0026 at most, and 6 fail with rate 2e-9. Those
    # that were the mask id already don't show.
    already = ids.eq(read_as).double().mean().item()
    assert changed.double().mean().item() == pytest.approx(0.3 * (1 - already), abs=6 * 0.0026)
    assert torch.equal(net.drop_tokens(ids, 0.0), ids)
    assert torch.equal(net.eval().drop_tokens(ids, 0.3), ids)


def test_cross_entropy_by_hand() -> None:
    """p = (1/2, 1/4, 1/4) at both places: ids (0, 1) cost ln 2 + ln 4 = 3 ln 2; sums, in float32 at least."""
    logits = torch.tensor([2.0, 1.0, 1.0]).log().expand(2, 3)
    cost = chunk_cross_entropy(logits, torch.tensor([0, 1]))
    assert cost.item() == pytest.approx(3 * math.log(2), abs=1e-12)
    half = chunk_cross_entropy(logits.bfloat16(), torch.tensor([0, 1]))
    assert half.dtype == torch.float32
    wide = torch.randn(2, 4, 3, 7)
    ids = torch.randint(7, (2, 4, 3))
    expected = -F.log_softmax(wide, -1).gather(-1, ids.unsqueeze(-1)).squeeze(-1).sum(-1)
    assert_close(chunk_cross_entropy(wide, ids), expected)


def test_initial_weights() -> None:
    """N(0, .02^2) for products, 0 for biases, 1 for norms.

    3 * 64 * 64 weights of squeeze: a standard error of .02 / sqrt(2 * 12288) = 1.3e-4; 6 fail with rate 2e-9.
    """
    net = ChunkMLP(
        "test", 5, 4, 2, chunk_size=3, hidden_dim=64, ffn_dim=None, encoder_layers=2, decoder_layers=2
    )
    assert net.encoder.squeeze.weight.std().item() == pytest.approx(0.02, abs=6 * 1.3e-4)
    assert net.encoder.chunk[0].mlp.gate.weight.shape == (160, 64)  # 5/2 of the width
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert parameter.eq(0).all(), name
        elif "norm" in name:
            assert parameter.eq(1).all(), name


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"chunk_size": 0}, "test: chunk_size must be at least 1, got 0; 1 would do"),
        ({"hidden_dim": 0}, "test: hidden_dim must be at least 1, got 0"),
        ({"ffn_dim": 0}, "test: ffn_dim must be at least 1, got 0"),
        ({"encoder_layers": -1}, "test: encoder_layers must be at least 0, got -1"),
        ({"decoder_layers": -1}, "test: decoder_layers must be at least 0, got -1"),
        ({"mask_id": 7}, "test: mask_id must be an id below 7, got 7"),
    ],
)
def test_refuses_sizes_that_leave_nothing_to_build(settings: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**settings)


@pytest.mark.parametrize(("units", "near"), [((7, 2, 3), (2, 3)), ((4,), ()), ((5, 4), (4,)), ((3, 0), (0,))])
def test_what_stands_beside_is_shared_by_the_dimensions_in_front(
    monkeypatch: pytest.MonkeyPatch, units: tuple[int, ...], near: tuple[int, ...]
) -> None:
    """In blocks of any size, which end anywhere among the draws."""
    net = make()
    z, beside = torch.randn(*units, 5), torch.randn(*near, 4)
    expected = net.logits(z, beside).argmax(-1)
    for rows in (1, 4, 1000):
        monkeypatch.setattr(chunk_mlp, "BLOCK_ELEMENTS", net.widest * rows)
        assert torch.equal(net.predict(z, beside), expected)
