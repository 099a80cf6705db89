"""Bytes that live, by hand; and what CUDA's kernels keep."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from calmkit.metrics.live_memory import LiveMemory
from calmkit.training.gpu_rules import GpuRules

KIB = 1024


def float32(kib: int) -> torch.Tensor:
    return torch.ones(kib * KIB // 4, dtype=torch.float32)


def test_views_cost_nothing_and_what_nobody_holds_is_gone() -> None:
    with LiveMemory() as memory:
        memory.phase = "one"
        memory.label = ("weights", "a")
        kept = float32(8)
        memory.label = ("activations", "b")
        seen = kept.view(2, -1)[0]
        gone = float32(16)
        del gone
        float32(4)
        memory.own(seen, ("weights", "c"))  # the storage is one
        memory.phase = "two"
        float32(2)
    assert memory.peaks["one"] == {("weights", "a"): 8 * KIB, ("activations", "b"): 16 * KIB}
    assert {k: v for k, v in memory.peaks["two"].items() if v} == {
        ("weights", "c"): 8 * KIB,
        ("activations", "b"): 2 * KIB,
    }


def test_what_autograd_saves_lives_until_the_backward_pass() -> None:
    x = float32(8).requires_grad_()
    with LiveMemory() as memory:
        memory.own(x, ("weights", ""))
        memory.phase = "forward"
        y = (x.exp() * 2).exp().sum()  # each exp keeps what it gave; the product is gone
        memory.forget_peaks()
        memory.phase = "after"
        float32(1)
        y.backward()
        del y
        memory.forget_peaks()
        memory.phase = "then"
        float32(1)
    assert sum(memory.peaks["then"].values()) == (8 + 8 + 1) * KIB  # x, its gradient
    assert "after" not in memory.peaks


def test_attention_of_a_gpu_keeps_no_matrix_and_its_sums_of_squares_are_float32() -> None:
    q, k, v = (torch.randn(2, 4, 64, 16, dtype=torch.float32).requires_grad_() for _ in range(3))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
        GpuRules(),
    ):
        mixed = F.scaled_dot_product_attention(q, k, v)
        assert mixed.dtype == torch.bfloat16
        numbers = 2 * 4 * 64
        assert sum(kept.values()) == 2 * 4 * numbers * 16 + 4 * numbers  # four in bfloat16, a sum per query
        assert F.layer_norm(mixed, (16,)).dtype == torch.float32
        assert mixed.square().dtype == mixed.sum(-1).dtype == torch.float32
        with torch.autocast("cpu", enabled=False):
            assert F.layer_norm(mixed, (16,)).dtype == torch.bfloat16
