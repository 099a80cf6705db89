"""ConditionalMLP: a residual network from the condition of a unit to numbers that describe its value.

Shared by the heads that need no noise inside the network, `mixture` and `regression`. A block of width W has
6 W^2 weights, as one of CALM's energy head has, so heads of equal depth and width compare at like cost.

Source: Shazeer, GLU Variants Improve Transformer, 2020, Eq. 6, for the block. https://arxiv.org/abs/2002.05202
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from calmkit.nn.swiglu import NORM_EPS, SwiGLU


@final
class ConditionalMLP(nn.Module):
    """Linear, LayerNorm, `depth` residual blocks of LayerNorm and SwiGLU, LayerNorm, Linear.

    Args:
        hidden_dim: H, width of the condition.
        out_dim: Width of the result.
        depth: Blocks.
        width: W, inside; None: `hidden_dim`.
    """

    def __init__(self, hidden_dim: int, out_dim: int, *, depth: int, width: int | None = None) -> None:
        super().__init__()
        width = width or hidden_dim
        self.read = nn.Linear(hidden_dim, width)
        self.read_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=NORM_EPS) for _ in range(depth))
        self.blocks = nn.ModuleList(SwiGLU(width, 2 * width) for _ in range(depth))
        self.write_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.write = nn.Linear(width, out_dim)

    def forward(self, h: Float[Tensor, "*units H"]) -> Float[Tensor, "*units out"]:
        """Apply to the last dimension."""
        x = self.read_norm(self.read(h))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.write(self.write_norm(x))
