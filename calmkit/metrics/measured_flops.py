"""FLOPs of a call, measured: a copy of a part runs under `torch.utils.flop_counter`, and nothing else moves.

It is what `calmkit.metrics.flops` asks of a part that does not state its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from calmkit.generation import SeededRandomness

Part = TypeVar("Part", bound=nn.Module)


@contextmanager
def copied(part: Part) -> Iterator[tuple[Part, torch.device, torch.dtype]]:
    """A copy of a part that may run, its device and dtype; the random numbers are of this block alone.

    Raises:
        ValueError: If the part has no numbers to run on.
    """
    parameter = next(part.parameters(), torch.empty(0))
    if parameter.is_meta:
        raise ValueError(
            f"{type(part).__name__} does not state its FLOPs, so they are measured, which the meta device "
            "does not allow: build it for real, or let it state them (calmkit.interfaces.flops)."
        )
    with SeededRandomness(0, parameter.device).borrowed(), comparable():
        yield copy.deepcopy(part), parameter.device, parameter.dtype  # a running statistic must not move


@torch.enable_grad()
def given(tensor: Tensor) -> Tensor:
    """A copy that takes a gradient, and no leaf: the counter's hooks on a module's inputs refuse leaves."""
    return tensor.detach().requires_grad_().clone()


@torch.no_grad()
def flops_of(call: Callable[[], object]) -> int:
    """FLOPs of a call that takes no gradient."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@torch.enable_grad()
def flops_with_gradients(module: nn.Module, call: Callable[[], Tensor], inputs: list[Tensor]) -> int:
    """FLOPs of a call and of the gradients for the inputs and the module's trainable parameters."""
    wanted = [*inputs, *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    with FlopCounterMode(display=False) as counter:
        result = call()
        if result.requires_grad and wanted:
            torch.autograd.grad(result.sum(), wanted, allow_unused=True)  # leaves no .grad behind
    return counter.get_total_flops()


@contextmanager
def comparable() -> Iterator[None]:
    """Kernels that count the same on every device: plain attention and recurrences, no fused fast paths."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
