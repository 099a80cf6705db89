"""GpuRules: what CUDA keeps of a call, told on tensors without numbers that say they are on the CPU.

A machine without a GPU can't run a backward pass on tensors that claim to be on one, so a plan runs on the
CPU's, and this mode changes what differs: autocast's list of functions that are taken in float32, attention
and RMSNorm as single kernels that keep no more than what their backward pass reads.

Sources: PyTorch, "Automatic Mixed Precision package: CUDA ops that autocast to float32".
https://docs.pytorch.org/docs/stable/amp.html Dao, FlashAttention-2, 2023, section 3.1 (q, k, v, the output
and a logarithm per row are kept). https://arxiv.org/abs/2307.08691
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

HALF = (torch.bfloat16, torch.float16)
# fmt: off
IN_FLOAT32 = frozenset((
    "__pow__", "__rdiv__", "__rpow__", "__rtruediv__", "acos", "asin",
    "binary_cross_entropy_with_logits", "cosh", "cosine_embedding_loss", "cdist", "cosine_similarity",
    "cross_entropy", "cumprod", "dist", "erfinv", "exp", "expm1", "group_norm", "hinge_embedding_loss",
    "kl_div", "l1_loss", "layer_norm", "log", "log10", "log1p", "log2", "logsumexp", "mse_loss",
    "nll_loss", "norm", "normalize", "pow", "prod", "reciprocal", "renorm", "rms_norm", "rsqrt", "sinh",
    "smooth_l1_loss", "softplus", "square", "std", "tan", "var",
))
# fmt: on
"""Their inputs of half precision become float32; what they keep is that copy."""
INTO_FLOAT32 = frozenset(("sum", "softmax", "log_softmax", "cumsum"))
"""They read half precision and give float32, without a copy."""


@final
class GpuRules(TorchFunctionMode):
    """While it is entered, functions of torch keep what they would keep on a GPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The function, or the kernel in its place."""
        del types
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if torch.is_autocast_enabled("cpu"):
            if name in IN_FLOAT32:
                args, kwargs = tuple(map(_wide, args)), {key: _wide(value) for key, value in kwargs.items()}
            elif name in INTO_FLOAT32 and _is_half(args[0]) and kwargs.get("dtype") is None:
                kwargs = kwargs | {"dtype": torch.float32}
        if name == "rms_norm":
            return _rms_norm(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in HALF


def _wide(value: Any) -> Any:
    return value.float() if _is_half(value) else value


def _rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: Any = None) -> Tensor:
    del eps
    return _OneKernel.apply(x, len(normalized_shape), weight)


class _OneKernel(torch.autograd.Function):
    """RMSNorm: it keeps what it reads, and a number for each row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: int, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, x.new_empty(x.shape[:-dims], dtype=torch.float32), weight)
        wide = x.dtype if weight is None else torch.promote_types(x.dtype, weight.dtype)
        return torch.empty_like(x, dtype=wide)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        x, _, weight = ctx.saved_tensors
        return torch.empty_like(x), None, None if weight is None else torch.empty_like(weight)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    del args, kwargs  # causal or not, with or without dropout: the same is kept
    if torch.is_autocast_enabled("cpu"):
        lower = torch.get_autocast_dtype("cpu")
        query, key, value = (t.to(lower) if t.is_floating_point() else t for t in (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)  # it is added, so it becomes numbers
    return _FusedAttention.apply(query, key, value, attn_mask)


class _FusedAttention(torch.autograd.Function):
    """No matrix of scores: queries, keys, values, the output, and a number for each query."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        out = q.new_empty(*q.shape[:-2], q.shape[-2], v.shape[-1])
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32), mask)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        q, k, v, *_ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None
