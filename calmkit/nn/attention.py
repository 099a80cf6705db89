"""Causal attention with rotary positions, and the transformer layer around it.

A layer makes queries, keys and values and hands them to an `Attend` of its caller, which knows what the past
is: the same units (training), or what `calmkit.nn.past` keeps of them (stepping).

Sources: Touvron et al., LLaMA, 2023, section 2.2 (pre-norm, SwiGLU, rotary). https://arxiv.org/abs/2302.13971
Su et al., RoFormer, 2021, section 3.2.2 (rotary positions). https://arxiv.org/abs/2104.09864
Ainslie et al., GQA, 2023, section 2.2 (grouped queries). https://arxiv.org/abs/2305.13245
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.nn.swiglu import NORM_EPS, SwiGLUBlock

FFN_MULTIPLE = 32  # gives 2048, 2752, 4096 for 768, 1024, 1536: sizes S, M, L of CALM
INIT_STD = 0.02  # of every linear weight and embedding: initializer_range of the official CALM code
Rotation = tuple[Float[Tensor, "#R 1 n half"], Float[Tensor, "#R 1 n half"]]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q `[R, heads, n, E]`, k and v `[R, kv_heads, n, E]`) -> `[R, heads, n, E]`."""


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Half precision becomes float32: sums of exponentials over thousands of terms need its digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def ffn_width(dim: int) -> int:
    """Width inside SwiGLU: 8/3 of `dim` (LLaMA, section 2.2), rounded up to a multiple of 32."""
    return -(-8 * dim // (3 * FFN_MULTIPLE)) * FFN_MULTIPLE


def initialise(module: nn.Module) -> None:
    """Llama's start: weights of linears and embeddings from N(0, 0.02^2), biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def rotation(positions: Int[Tensor, "#R n"], head_dim: int, theta: float, dtype: torch.dtype) -> Rotation:
    """Cosines and sines of the angles position * theta^(-2j / head_dim), for j < head_dim / 2.

    Angles are taken in float32 at least: bfloat16 cannot tell position 257 from 256.
    """
    precise = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, head_dim, 2, device=positions.device).to(precise) / head_dim
    angles = positions[:, None, :, None].to(precise) * theta**-exponents  # [R, 1, n, head_dim / 2]
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "R heads n E"], by: Rotation) -> Float[Tensor, "R heads n E"]:
    """Turn the pairs (x_j, x_{j + E/2}); products of rotated vectors then depend on distances only.

    Halves are paired, not neighbours, as in the Hugging Face Llama that the official checkpoints use.
    """
    cos, sin = (part.to(x.dtype) for part in by)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def visible_units(valid: Bool[Tensor, "R P"], n: int) -> Bool[Tensor, "R n P"]:
    """What the last n of P units read: valid units up to themselves.

    An invalid unit reads itself too, since a softmax over nothing is NaN; nobody reads such a unit.
    """
    num = valid.shape[1]
    causal = torch.ones(n, num, dtype=torch.bool, device=valid.device).tril(num - n)
    return (causal & valid.unsqueeze(1)) | causal.triu(num - n)


def attention(
    q: Float[Tensor, "R heads n E"],
    k: Float[Tensor, "R kv_heads P E"],
    v: Float[Tensor, "R kv_heads P E"],
    visible: Bool[Tensor, "R n P"] | None = None,
) -> Float[Tensor, "R heads n E"]:
    """Attention of the last n of P units; `visible` None: each reads itself and all before it.

    Query head i reads key head i // (heads / kv_heads).
    """
    n, num, grouped = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    if visible is None and 1 < n < num:
        visible = visible_units(torch.ones(1, num, dtype=torch.bool, device=q.device), n)
    if visible is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=n == num, enable_gqa=grouped)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible.unsqueeze(1), enable_gqa=grouped)


@final
class Attention(nn.Module):
    """Grouped-query attention without biases.

    Args:
        dim: Width W of the residual stream; the width E of a head is dim / heads.
        heads: Query heads.
        kv_heads: Key and value heads, a divisor of `heads`.
    """

    def __init__(self, dim: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads
        width = dim // heads
        self.q = nn.Linear(dim, heads * width, bias=False)
        self.k = nn.Linear(dim, kv_heads * width, bias=False)
        self.v = nn.Linear(dim, kv_heads * width, bias=False)
        self.o = nn.Linear(heads * width, dim, bias=False)

    def forward(self, x: Float[Tensor, "R n W"], by: Rotation, attend: Attend) -> Float[Tensor, "R n W"]:
        """Mix units: `attend` supplies the past."""
        q = rotate(self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2), by)
        k = rotate(self.k(x).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2), by)
        v = self.v(x).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
        return self.o(attend(q, k, v).transpose(1, 2).flatten(-2))


@final
class TransformerLayer(nn.Module):
    """x + Attention(RMSNorm(x)), then x + SwiGLU(RMSNorm(x))."""

    def __init__(self, dim: int, heads: int, kv_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.attention = Attention(dim, heads, kv_heads)
        self.feed_forward = SwiGLUBlock(dim, ffn_dim)

    def forward(self, x: Float[Tensor, "R n W"], by: Rotation, attend: Attend) -> Float[Tensor, "R n W"]:
        """Mix units, then transform each."""
        return self.feed_forward(x + self.attention(self.norm(x), by, attend))
