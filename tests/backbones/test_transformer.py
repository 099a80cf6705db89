"""The laws of a backbone, for the transformer: its state and its branches equal its forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from calmkit.backbones.transformer import TransformerBackbone

B, L, H = 3, 7, 16
ALL = torch.ones(B, L, dtype=torch.bool)
LEFT = torch.arange(L) >= torch.tensor([[0], [2], [5]])  # rows filled on their left, as prompts are
HOLES = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [0, 0, 1, 0, 1, 1, 0], [0] * 7]).bool()
MASKS = pytest.mark.parametrize("valid", [ALL, LEFT, HOLES], ids=["all", "left", "holes"])
KV = pytest.mark.parametrize("kv_heads", [4, 2, 1])


def close(a: Tensor, b: Tensor) -> None:
    assert_close(a, b, atol=1e-12, rtol=0)


def make(kv_heads: int = 2, **settings: int) -> TransformerBackbone:
    backbone = TransformerBackbone(hidden_dim=H, depth=2, heads=4, kv_heads=kv_heads, **settings)
    for parameter in backbone.parameters():  # the small initial weights would hide a wrong mask
        torch.nn.init.normal_(parameter, std=0.4)
    return backbone


def unroll(
    backbone: TransformerBackbone, x: Tensor, valid: Tensor, sizes: list[int], room: int = L
) -> Tensor:
    context, state = backbone.start(len(x), room)
    h, at = [context.h], 0
    for n in sizes:
        context, state = backbone.step(x[:, at : at + n], valid[:, at : at + n], state)
        h.append(context.h)
        at += n
    return torch.cat(h, 1)


@KV
@MASKS
@pytest.mark.parametrize("sizes", [[1] * 6, [6], [2, 1, 3], [1, 4, 1]])
@pytest.mark.parametrize("grad", [False, True])
def test_system_steps_equal_forward(kv_heads: int, valid: Tensor, sizes: list[int], grad: bool) -> None:
    backbone, x = make(kv_heads), torch.randn(B, L, H)
    with torch.set_grad_enabled(grad):
        close(unroll(backbone, x, valid, sizes), backbone(x, valid).h)
        close(unroll(backbone, x, valid, sizes, room=1), backbone(x, valid).h)  # grows


def test_gradients_of_steps_equal_those_of_forward() -> None:
    backbone, x = make(), torch.randn(B, L, H, requires_grad=True)
    weights = torch.randn(B, L, H)
    (by_forward,) = torch.autograd.grad((backbone(x, LEFT).h * weights).sum(), x)
    (by_steps,) = torch.autograd.grad((unroll(backbone, x, LEFT, [2, 1, 3]) * weights).sum(), x)
    close(by_steps, by_forward)


@KV
@MASKS
@pytest.mark.parametrize("n", [1, 2])
@torch.no_grad()
def test_every_branch_goes_on_from_its_prefix(kv_heads: int, valid: Tensor, n: int) -> None:
    backbone, x = make(kv_heads), torch.randn(B, L, H)
    state = backbone.states(x, valid)
    close(state.h.view(B, L, H), backbone(x, valid).h)
    new = torch.randn(B * L, 3, H)
    real = torch.ones(B * L, 3, dtype=torch.bool)
    real[::4, 0] = False  # some branches begin with an invalid unit
    first, state = backbone.step(new[:, :n], real[:, :n], state)
    second, _ = backbone.step(new[:, n:], real[:, n:], state)
    got = torch.cat([first.h, second.h], 1).view(B, L, 3, H)
    for b in range(B):
        for i in range(L):
            row = slice(b * L + i, b * L + i + 1)
            whole = torch.cat([x[b : b + 1, :i], new[row], x[:1, :1]], 1)  # the last unit is never read
            mask = torch.cat([valid[b : b + 1, :i], real[row], valid[:1, :1]], 1)
            close(got[b, i], backbone(whole, mask).h[0, i + 1 :])


@pytest.mark.parametrize("rows", [[4], [20, 0, 0, 7, 6, 6, 6], [3, 2, 1], []])
@pytest.mark.parametrize("before", [0, 1])
@torch.no_grad()
def test_any_branches_may_be_selected(rows: list[int], before: int) -> None:
    backbone, x = make(), torch.randn(B, L, H)
    state = backbone.states(x, LEFT)
    real = torch.ones(B * L, 1, dtype=torch.bool)
    for _ in range(before):
        _, state = backbone.step(torch.randn(B * L, 1, H), real, state)
    new, index = torch.randn(B * L, 1, H), torch.tensor(rows, dtype=torch.long)
    all_branches, _ = backbone.step(new, real, state)
    some, _ = backbone.step(new[index], real[index], backbone.select(state, index))
    close(some.h, all_branches.h[index])


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("branches", [False, True])
def test_an_older_state_may_be_stepped_again(grad: bool, branches: bool) -> None:
    backbone, x = make(), torch.randn(B, L, H)
    rows = B * L if branches else B
    a, b, c = torch.randn(3, rows, 1, H)
    real = torch.ones(rows, 1, dtype=torch.bool)
    with torch.set_grad_enabled(grad):
        old = backbone.states(x, ALL) if branches else backbone.step(x, ALL, backbone.start(B, 20)[1])[1]
        first, newer = backbone.step(a, real, old)
        twice, _ = backbone.step(c, real, newer)
        backbone.step(b, real, old)  # another future; the first one must not notice
        close(backbone.step(c, real, newer)[0].h, twice.h)
        close(backbone.step(a, real, old)[0].h, first.h)


@torch.no_grad()
def test_system_select_commutes_with_step() -> None:
    backbone, x = make(), torch.randn(B, L, H)
    _, state = backbone.step(x[:, :3], LEFT[:, :3], backbone.start(B, L)[1])
    rows = torch.tensor([2, 0, 2])
    picked, _ = backbone.step(x[rows, 3:], LEFT[rows, 3:], backbone.select(state, rows))
    every, _ = backbone.step(x[:, 3:], LEFT[:, 3:], state)
    close(picked.h, every.h[rows])


def test_invalid_units_change_nothing_wherever_they_stand() -> None:
    backbone, x = make(), torch.randn(1, 4, H)
    plain = backbone(x, ALL[:1, :4]).h
    columns = torch.tensor([2, 3, 5, 8])  # the four units among five invalid ones
    spread, valid = torch.randn(1, 9, H), torch.zeros(1, 9, dtype=torch.bool)
    spread[:, columns], valid[:, columns] = x, True
    h = backbone(spread, valid).h
    close(h[:, columns], plain)
    close(h[:, :2], backbone.first.expand(1, 2, H))
    close(h[:, 6:8], plain[:, 3:].expand(1, 2, H))  # behind an invalid unit: the condition stays


def test_system_no_leak_from_the_future() -> None:
    backbone, x = make(), torch.randn(B, L, H)
    h = backbone(x, ALL).h
    for j in range(L):
        other = x.clone()
        other[:, j] += 1.0
        changed = backbone(other, ALL).h
        close(changed[:, : j + 1], h[:, : j + 1])
        assert j == L - 1 or not torch.isclose(changed[:, j + 1 :], h[:, j + 1 :]).any()


def test_system_a_batch_of_one_equals_its_row() -> None:
    backbone, x = make(), torch.randn(B, L, H)
    for valid in (ALL, HOLES):
        h = backbone(x, valid).h
        for b in range(B):
            close(backbone(x[b : b + 1], valid[b : b + 1]).h, h[b : b + 1])


@pytest.mark.parametrize("units", [1, 5])
def test_gradient_reaches_every_parameter_and_stays_finite(units: int) -> None:
    backbone, x = make(), torch.randn(B, units, H)
    backbone(x, HOLES[:, :units]).h.square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert units == 1 or parameter.grad.any(), name


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("valid", [ALL, HOLES])
@torch.no_grad()
def test_other_dtypes(dtype: torch.dtype, atol: float, valid: Tensor) -> None:
    # bfloat16 has 8 bits: conditions of size 1 agree to a few times 2^-8 after two layers
    backbone = TransformerBackbone(hidden_dim=H, depth=2, heads=4, kv_heads=2)
    x = torch.randn(B, L, H)
    exact = backbone(x, valid).h
    backbone, x = backbone.to(dtype), x.to(dtype)
    h = backbone(x, valid).h
    assert h.dtype == dtype
    assert_close(h.double(), exact, atol=atol, rtol=0)
    assert_close(unroll(backbone, x, valid, [1, 3, 2]).double(), exact, atol=atol, rtol=0)
    branches, _ = backbone.step(x.view(B * L, 1, H), valid.view(-1, 1), backbone.states(x, valid))
    assert branches.h.dtype == dtype
    assert_close(branches.h.view(B, L, H)[:, :-1].double(), exact[:, 1:], atol=atol, rtol=0)


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_autocast_keeps_the_residual_stream_in_float32(x_dtype: torch.dtype) -> None:
    backbone = TransformerBackbone(hidden_dim=H, depth=2, heads=4).float()
    x = torch.randn(B, L, H, dtype=x_dtype)
    exact = backbone(x.float(), ALL).h
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = backbone(x, ALL).h
        assert h.dtype == torch.float32
        assert_close(h, exact, atol=0.05, rtol=0)
        assert_close(unroll(backbone, x, ALL, [1, 3, 2]), exact, atol=0.05, rtol=0)
        branches, _ = backbone.step(x.view(B * L, 1, H), ALL.view(-1, 1), backbone.states(x, ALL))
        assert_close(branches.h.view(B, L, H)[:, :-1], exact[:, 1:], atol=0.05, rtol=0)


@pytest.mark.parametrize("settings", [{"kv_heads": 4}, {"kv_heads": 1}, {"kv_heads": 2, "ffn_dim": 24}])
def test_flops_are_those_that_torch_counts(settings: dict[str, int]) -> None:
    backbone = make(**settings)
    for units in (2, 9):
        # the counter sees matrix products only in the plain backend
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            backbone(torch.randn(1, units, H), torch.ones(1, units, dtype=torch.bool))
        assert backbone.forward_flops(units) == counter.get_total_flops()


def test_flops_by_hand() -> None:
    # 2 units, so one is read: 4 * 2 * 2 + 3 * 2 * 5 products in the linears, 2 * 2 for one pair; twice that
    backbone = TransformerBackbone(hidden_dim=2, depth=1, heads=1, ffn_dim=5)
    assert backbone.forward_flops(2) == 2 * (16 + 30 + 4)


def test_parameters_are_those_of_calm_m() -> None:
    # 16 layers of 4 H^2 + 3 H F + 2 H at H = 1024, F = 2752, the last norm and the first condition
    with torch.device("meta"):
        backbone = TransformerBackbone(hidden_dim=1024, depth=16, heads=16)
    assert sum(p.numel() for p in backbone.parameters()) == 16 * (4 * 1024**2 + 3 * 1024 * 2752 + 2048) + 2048


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hidden_dim": 20, "heads": 4}, "hidden_dim .* 24 would do"),
        ({"heads": 8, "kv_heads": 3}, "kv_heads .* 8 would do"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"rope_theta": 0.0}, "rope_theta"),
    ],
)
def test_refuses(settings: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TransformerBackbone(**settings)


def test_refuses_another_number_of_rows() -> None:
    backbone = make()
    with pytest.raises(ValueError, match="2 rows for a state of 3"):
        backbone.step(torch.randn(2, 1, H), ALL[:2, :1], backbone.start(3, 4)[1])
