"""The layer of a vision transformer: every unit reads every other one that may be read.

Source: Dosovitskiy et al., ViT, 2020, section 3.1, Eqs. 2 and 3. https://arxiv.org/abs/2010.11929
"""

from __future__ import annotations

from typing import final

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.nn.swiglu import NORM_EPS


@final
class BidirectionalLayer(nn.Module):
    """x + Attention(LayerNorm(x)), then x + MLP(LayerNorm(x)), with biases and GELU. It knows no positions.

    Args:
        dim: Width W, a multiple of `heads`.
        heads: Heads of the attention.
        ffn_dim: Width inside the MLP.
        dropout: Rate, in training, on the weights of the attention and on what each half adds.
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.up = nn.Linear(dim, ffn_dim)
        self.down = nn.Linear(ffn_dim, dim)

    def forward(
        self, x: Float[Tensor, "B n W"], visible: Bool[Tensor, "B n"] | None = None
    ) -> Float[Tensor, "B n W"]:
        """Mix units, then transform each.

        Args:
            x: The residual stream.
            visible: Which units are read, at least one of each row; None: all. The others read, unread.
        """
        x = x + self._dropped(self.out(self._mixed(self.norm(x), visible)))
        return x + self._dropped(self.down(F.gelu(self.up(self.mlp_norm(x)))))

    def _mixed(
        self, x: Float[Tensor, "B n W"], visible: Bool[Tensor, "B n"] | None
    ) -> Float[Tensor, "B n W"]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, n, E]
        mask = None if visible is None else visible[:, None, None, :]
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        return mixed.transpose(1, 2).flatten(-2)

    def _dropped(self, x: Float[Tensor, "B n W"]) -> Float[Tensor, "B n W"]:
        return F.dropout(x, self.dropout, self.training)
