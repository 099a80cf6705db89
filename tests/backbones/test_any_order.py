"""The any-order backbone: what is passed over by a mask is as if left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from calmkit.backbones.any_order import AnyOrderTransformer
from calmkit.recipe.shapes_only import shapes_only

LAYOUT, L, H, P = (2, 3), 6, 8, 2
SMALL: dict[str, Any] = {"hidden_dim": H, "depth": 2, "decoder_depth": 1, "heads": 2, "buffer": 2}
DEPTHS = pytest.mark.parametrize("depth", [0, 2])


def backbone_of(**settings: Any) -> AnyOrderTransformer:
    return AnyOrderTransformer(LAYOUT, **(SMALL | settings)).eval()


def as_published(backbone: AnyOrderTransformer, x: Tensor, known: Tensor, prefix: Tensor) -> Tensor:
    """One row as MAR computes it: the encoder gets the known units alone, none that are hidden."""
    encoder, front = backbone.encoder, torch.cat([backbone.buffer, prefix])
    assert encoder is not None
    every = encoder.first_norm(torch.cat([front, x[known] + encoder.position[known]])).unsqueeze(0)
    for layer in encoder.layers:
        every = layer(every)
    every = encoder.bridge(encoder.norm(every))[0]
    body = backbone.hidden.repeat(L, 1)
    body[known] = every[len(front) :]
    every = torch.cat([every[: len(front)], body + backbone.position]).unsqueeze(0)
    for layer in backbone.layers:
        every = layer(every)
    return backbone.norm(every[0, len(front) :]) + backbone.last_position


@torch.no_grad()
def test_hidden_units_are_as_if_left_out_of_the_encoder() -> None:
    backbone, x, prefix = backbone_of(), torch.randn(4, L, H), torch.randn(4, P, H)
    known = torch.tensor([[0] * 6, [1, 0, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1], [1] * 6]).bool()
    h = backbone(x, known, prefix).h
    for row in range(4):
        assert_close(h[row], as_published(backbone, x[row], known[row], prefix[row]), atol=1e-12, rtol=0)


@torch.no_grad()
def test_a_decoder_alone_by_hand() -> None:
    # With all layers silenced, h is the norm of (unit or stand-in, plus position), plus the last position.
    backbone = backbone_of(depth=0)
    for parameter in backbone.layers.parameters():
        torch.nn.init.zeros_(parameter)
    x, known = torch.randn(1, L, H), torch.tensor([[True, False, False, True, False, False]])
    seen = x.clone()
    seen[~known] = backbone.hidden
    wanted = backbone.norm(seen + backbone.position) + backbone.last_position
    assert_close(backbone(x, known).h, wanted)


@DEPTHS
def test_no_gradient_comes_from_hidden_units(depth: int) -> None:
    backbone, x = backbone_of(depth=depth, decoder_depth=1), torch.randn(2, L, H, requires_grad=True)
    known = torch.tensor([[1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]).bool()
    backbone(x, known).h.square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(-1) > 0).equal(known)


@DEPTHS
@pytest.mark.parametrize("prefix", [0, P])
def test_stated_flops_are_what_torch_counts(depth: int, prefix: int) -> None:
    backbone, x = backbone_of(depth=depth, decoder_depth=3), torch.randn(1, L, H)
    known, before = torch.ones(1, L, dtype=torch.bool), torch.randn(1, prefix, H) if prefix else None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        backbone(x, known, before)
    assert backbone.forward_flops(L + prefix) == counter.get_total_flops()


def test_the_published_base_size_has_its_parameters() -> None:
    # MAR-B: 12 + 12 layers of 768. A layer: 12 H^2 of weights, 9 H of biases, 4 H of norms. Then the norm
    # before the encoder and those behind it and the decoder, the Linear layer between the two, positions of
    # 256 units three times, the stand-in, 64 buffer vectors. MAR has 64 H more: the buffer's positions in the
    # decoder.
    h = 768
    layers = 24 * (12 * h * h + 13 * h)
    wanted = layers + 3 * 2 * h + h * h + h + 3 * 256 * h + h + 64 * h
    with shapes_only():
        backbone = AnyOrderTransformer((16, 16), hidden_dim=h, depth=12, heads=12, buffer=64)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == wanted == 171_343_872


@pytest.mark.parametrize(
    ("layout", "settings", "told"),
    [
        (
            LAYOUT,
            {"hidden_dim": 10, "heads": 4},
            "any_order: hidden_dim 10 is no multiple of 4 heads; 8 would",
        ),
        (LAYOUT, {"depth": -1}, "any_order: depth must be at least 0, got -1"),
        (LAYOUT, {"depth": 0, "decoder_depth": None}, "any_order: decoder_depth must be at least 1, got 0"),
        (LAYOUT, {"buffer": 0}, "any_order: buffer must be at least 1, got 0"),
        (LAYOUT, {"dropout": 1.0}, r"any_order: dropout must be in \[0, 1\), got 1.0"),
        (None, {}, "any_order: layout is None; the grid of a fixed number of units would do"),
        ((2, 0), {}, r"any_order: layout is \(2, 0\)"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    layout: tuple[int, ...] | None, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        AnyOrderTransformer(layout, **(SMALL | settings))


def test_rows_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="any_order: rows have 5 units; 6 would do, its layout's"):
        backbone_of()(torch.randn(1, 5, H), torch.ones(1, 5, dtype=torch.bool))


def test_depth_of_the_decoder_is_that_of_the_encoder_unless_told() -> None:
    assert len(backbone_of(decoder_depth=None).layers) == SMALL["depth"]
