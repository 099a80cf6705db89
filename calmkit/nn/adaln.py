"""The network of the flow and diffusion heads: an MLP on z_t that time and condition modulate.

Time and condition are added to one vector y. Each block normalises its input, shifts and scales it by
Linear(SiLU(y)), passes it through a two-layer MLP and adds it back through a gate, also from y. y holds
one row per *unit*, not per draw, wherever the time is the same for all draws (as in sampling): then three
fifths of a block's work are done once per unit.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), 2024, section 4:
`SimpleMLPAdaLN` of the released code, which CALM takes over for both heads. https://arxiv.org/abs/2406.11838
Peebles and Xie, Scalable Diffusion Models with Transformers, 2023, section 3.2 (adaLN-Zero).
https://arxiv.org/abs/2212.09748
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.nn.swiglu import NORM_EPS
from calmkit.nn.time_embedding import TimeEmbedding

MAX_ROWS = 2**15  # of one network call in sampling: 128 MiB per activation at width 1024 in float32


def draw_blocks(num: int, units: int) -> list[int]:
    """`num` draws of `units` units, cut into passes of at most MAX_ROWS rows, and at least one draw each."""
    block = max(1, MAX_ROWS // max(1, units))
    return [min(block, num - first) for first in range(0, num, block)]


def modulate(
    x: Float[Tensor, "S N W"], shift: Float[Tensor, "#S N W"], scale: Float[Tensor, "#S N W"]
) -> Float[Tensor, "S N W"]:
    """x (1 + scale) + shift: the identity where both are zero."""
    return x * (1 + scale) + shift


@final
class AdaLNBlock(nn.Module):
    """x + gate * MLP(modulate(LayerNorm(x), shift, scale)), with SiLU between the MLP's two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Float[Tensor, "S N W"], y: Float[Tensor, "#S N W"]) -> Float[Tensor, "S N W"]:
        """`y` is SiLU(time + condition), one row for all draws or one for each."""
        shift, scale, gate = self.modulation(y).chunk(3, -1)
        return x + gate * self.down(F.silu(self.up(modulate(self.norm(x), shift, scale))))


@final
class AdaLNMLP(nn.Module):
    """(z_t, t, h) -> a vector as wide as z_t: a velocity, a noise, whatever the loss teaches it.

    Built with all gates and the output at zero: it gives 0, and every block is the identity.

    Args:
        latent_dim: D.
        hidden_dim: H.
        width: W, of the blocks.
        depth: Number of blocks.
        quantize_time: See `TimeEmbedding`.
    """

    def __init__(
        self, latent_dim: int, hidden_dim: int, width: int, depth: int, *, quantize_time: bool = False
    ) -> None:
        super().__init__()
        self.input_proj = nn.Linear(latent_dim, width)
        self.cond_embed = nn.Linear(hidden_dim, width)
        self.blocks = nn.ModuleList(AdaLNBlock(width) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, latent_dim)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        modulations = [layer for name, layer in self.named_modules() if name.endswith("modulation")]
        for layer in (*modulations, self.output):
            nn.init.zeros_(layer.weight)
        self.time_embed = TimeEmbedding(
            width, quantize=quantize_time
        )  # last: it keeps its own initialisation

    def condition(self, h: Float[Tensor, "N H"]) -> Float[Tensor, "N W"]:
        """The condition's share of y, computed once per unit for any number of draws and steps."""
        return self.cond_embed(h)

    def forward(
        self, z_t: Float[Tensor, "S N D"], t: Float[Tensor, "#S #N"], c: Float[Tensor, "N W"]
    ) -> Float[Tensor, "S N D"]:
        """Apply to S draws of N units.

        Args:
            z_t: Between noise and data. Any float dtype; it is cast to that of the weights.
            t: In [0, 1], 0 noise, 1 data; `[1, 1]` where all rows share it, which is also the cheapest.
            c: From `condition`.
        """
        y = F.silu(self.time_embed(t) + c)
        x = self.input_proj(z_t.to(self.input_proj.weight.dtype))
        for block in self.blocks:
            x = block(x, y)
        shift, scale = self.final_modulation(y).chunk(2, -1)
        return self.output(modulate(self.final_norm(x), shift, scale))
