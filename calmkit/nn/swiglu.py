"""SwiGLU: the gated feed-forward network of Llama, shared by the transformer and the autoencoders.

Source: Shazeer, GLU Variants Improve Transformer, 2020, Eq. 6. https://arxiv.org/abs/2002.05202
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6  # of every RMSNorm and LayerNorm in the official CALM code


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without bias."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Apply to the last dimension."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class SwiGLUBlock(nn.Module):
    """x + SwiGLU(RMSNorm(x)): the residual layer of CALM's autoencoder and the second half of a transformer
    layer.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.mlp = SwiGLU(dim, hidden)

    def forward(self, x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Apply to the last dimension."""
        # Under autocast x may be half while the norm's weight is not, which the fused kernel refuses with a
        # warning.
        return x + self.mlp(self.norm(x.to(self.norm.weight.dtype)))
