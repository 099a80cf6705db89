"""The laws of a backbone, for the GRU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from calmkit.backbones.gru import GRUBackbone

B, L, H = 3, 6, 8
ALL = torch.ones(B, L, dtype=torch.bool)
LEFT = torch.arange(L) >= torch.tensor([[0], [2], [5]])
HOLES = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0], [0] * 6]).bool()
MASKS = pytest.mark.parametrize("valid", [ALL, LEFT, HOLES], ids=["all", "left", "holes"])
DEPTHS = pytest.mark.parametrize("depth", [1, 2])


def close(a: Tensor, b: Tensor) -> None:
    assert_close(a, b, atol=1e-12, rtol=0)


def unroll(backbone: GRUBackbone, x: Tensor, valid: Tensor, sizes: list[int]) -> Tensor:
    context, state = backbone.start(len(x), L)
    h, at = [context.h], 0
    for n in sizes:
        context, state = backbone.step(x[:, at : at + n], valid[:, at : at + n], state)
        h.append(context.h)
        at += n
    return torch.cat(h, 1)


def test_one_unit_by_hand() -> None:
    # H = 1, all weights 0 but the input weight 1 of the new gate: update 1/2, new tanh(x), so h = tanh(x) / 2
    backbone = GRUBackbone(hidden_dim=1)
    for parameter in backbone.layers.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        backbone.layers[0].weight_ih_l0[2] = 1.0  # rows: reset, update, new
    h = backbone(torch.tensor([[[0.5], [9.0]]]), ALL[:1, :2]).h
    assert_close(h[0, 1], torch.tensor([0.5]).tanh() / 2)
    assert_close(h[0, 0], backbone.first)


@DEPTHS
@MASKS
@pytest.mark.parametrize("sizes", [[1] * 5, [5], [2, 1, 2]])
def test_system_steps_equal_forward(depth: int, valid: Tensor, sizes: list[int]) -> None:
    backbone, x = GRUBackbone(hidden_dim=H, depth=depth), torch.randn(B, L, H)
    close(unroll(backbone, x, valid, sizes), backbone(x, valid).h)


@DEPTHS
@MASKS
@torch.no_grad()
def test_every_branch_goes_on_from_its_prefix(depth: int, valid: Tensor) -> None:
    backbone, x = GRUBackbone(hidden_dim=H, depth=depth), torch.randn(B, L, H)
    state = backbone.states(x, valid)
    new = torch.randn(B * L, 2, H)
    real = torch.ones(B * L, 2, dtype=torch.bool)
    real[::4, 0] = False
    got = backbone.step(new, real, state)[0].h.view(B, L, 2, H)
    for b in range(B):
        for i in range(L):
            row = slice(b * L + i, b * L + i + 1)
            whole = torch.cat([x[b : b + 1, :i], new[row], x[:1, :1]], 1)
            mask = torch.cat([valid[b : b + 1, :i], real[row], valid[:1, :1]], 1)
            close(got[b, i], backbone(whole, mask).h[0, i + 1 :])


def test_system_older_states_and_selected_rows() -> None:
    backbone, x = GRUBackbone(hidden_dim=H, depth=2), torch.randn(B, L, H)
    _, old = backbone.step(x[:, :2], LEFT[:, :2], backbone.start(B, L)[1])
    first, _ = backbone.step(x[:, 2:], LEFT[:, 2:], old)
    backbone.step(x[:, 3:], LEFT[:, 3:], old)
    close(backbone.step(x[:, 2:], LEFT[:, 2:], old)[0].h, first.h)
    rows = torch.tensor([2, 0, 2])
    close(backbone.step(x[rows, 2:], LEFT[rows, 2:], backbone.select(old, rows))[0].h, first.h[rows])


def test_invalid_units_change_nothing_wherever_they_stand() -> None:
    backbone, x = GRUBackbone(hidden_dim=H, depth=2), torch.randn(1, 4, H)
    plain = backbone(x, ALL[:1, :4]).h
    columns = torch.tensor([2, 3, 5, 8])
    spread, valid = torch.randn(1, 9, H), torch.zeros(1, 9, dtype=torch.bool)
    spread[:, columns], valid[:, columns] = x, True
    h = backbone(spread, valid).h
    close(h[:, columns], plain)
    close(h[:, :2], backbone.first.expand(1, 2, H))
    close(h[:, 6:8], plain[:, 3:].expand(1, 2, H))


def test_system_no_leak_from_the_future() -> None:
    backbone, x = GRUBackbone(hidden_dim=H, depth=2), torch.randn(B, L, H)
    h = backbone(x, ALL).h
    for j in range(L):
        other = x.clone()
        other[:, j] += 1.0
        changed = backbone(other, ALL).h
        close(changed[:, : j + 1], h[:, : j + 1])
        assert j == L - 1 or not torch.isclose(changed[:, j + 1 :], h[:, j + 1 :]).any()


@pytest.mark.parametrize("valid", [ALL, HOLES])
def test_gradient_reaches_every_parameter(valid: Tensor) -> None:
    backbone = GRUBackbone(hidden_dim=H, depth=2)
    backbone(torch.randn(B, L, H), valid).h.square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16])
def test_autocast(x_dtype: torch.dtype) -> None:
    backbone, x = GRUBackbone(hidden_dim=H, depth=2).float(), torch.randn(B, L, H, dtype=x_dtype)
    exact = backbone(x.float(), HOLES).h
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = backbone(x, HOLES).h
        stepped = unroll(backbone, x, HOLES, [2, 1, 2])
    assert h.dtype == torch.float32
    assert_close(h, exact, atol=0.05, rtol=0)  # bfloat16 products of values below 1: a few times 2^-8
    assert_close(stepped, exact, atol=0.05, rtol=0)
    h.sum().backward()
    assert backbone.first.grad is not None


@torch.no_grad()
def test_bfloat16() -> None:
    backbone, x = GRUBackbone(hidden_dim=H), torch.randn(B, L, H)
    exact = backbone(x, LEFT).h
    h = backbone.bfloat16()(x.bfloat16(), LEFT).h
    assert h.dtype == torch.bfloat16
    assert_close(h.double(), exact, atol=0.05, rtol=0)


def test_flops_by_hand() -> None:
    # per unit and layer 3 gates of an 8 x 8 product with the input and one with the state: 6 * 64 products
    assert GRUBackbone(hidden_dim=8, depth=2).forward_flops(4) == 2 * 2 * 3 * 6 * 64


def test_refuses() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        GRUBackbone(depth=0)
