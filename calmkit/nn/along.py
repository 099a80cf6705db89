"""A function and its derivative along a direction, in one pass of forward-mode differentiation."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

ALONG_PASSES = 3
"""Forward passes of a network that `along` costs. The value is one, the derivative two, for torch multiplies
by the derivative of the weights as well, though it is zero."""


def along(
    function: Callable[..., Tensor], at: tuple[Tensor, ...], direction: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """(function(*at), the derivative of function(*(at + s direction)) at s = 0).

    Both take gradients for what the function holds, such as weights.

    Args:
        function: Of tensors, differentiable in forward mode; Linear, LayerNorm and SiLU are.
        at: Its arguments.
        direction: One for each of them, with its shape and dtype.

    Source:
        Pearlmutter, Fast Exact Multiplication by the Hessian, 1994, section 3 (the operator).
        https://doi.org/10.1162/neco.1994.6.1.147
    """
    with warnings.catch_warnings():
        # torch prepares forward mode at its first use, by a function of its own that it calls deprecated
        warnings.filterwarnings("ignore", r".*torch\.jit\.script.* is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", r".*torch\.jit\.script.* is deprecated", DeprecationWarning)
        value, derivative, *_ = torch.func.jvp(function, at, direction)
    return value, derivative
