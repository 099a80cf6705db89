"""A network of the energy head in which noise and condition have changed places.

The stream starts from the condition, and the noise scales and shifts what every norm of it gives.

Source: Shao et al., Continuous Visual Autoregressive Generation via Score Maximization (EAR), 2025, and its
code, models/scoreloss.py of shaochenze/EAR. https://arxiv.org/abs/2505.07812
Alet et al., Skillful joint probabilistic weather forecasting from marginals (FGN), 2025.
https://arxiv.org/abs/2506.10772
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.heads.noise_mlp import NoiseMLP, NoiseNetwork
from calmkit.nn.adaln import modulate
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.swiglu import NORM_EPS


@final
class ModulatedBlock(nn.Module):
    """As `NoiseBlock`, but `join` reads LayerNorm(x) alone, which the noise has scaled and shifted."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.modulation = nn.Linear(width, 2 * width)
        self.join = nn.Linear(width, width)
        self.middle = nn.Linear(width, width)
        self.gate_up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "#S N W"], noise: Float[Tensor, "S N W"]) -> Float[Tensor, "S N W"]:
        """One residual step; before the first one all draws of a unit share one x."""
        shift, scale = self.modulation(noise).chunk(2, dim=-1)
        joined = self.join(modulate(self.norm(x).expand_as(shift), shift, scale))
        gate, up = self.gate_up(F.silu(self.middle(F.silu(joined)))).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


@final
class ModulatedMLP(NoiseNetwork):
    """A stream that starts from the condition; silu(noise) gives a scale and a shift behind every norm of it.

    EAR starts what gives them at 0. Here it starts as any layer does, or the draws of a fresh network would
    be one, whatever its last layer.
    """

    block = ModulatedBlock

    def __init__(
        self, noise_dim: int, hidden_dim: int, latent_dim: int, width: int, depth: int, num_codes: int = 0
    ) -> None:
        super().__init__(noise_dim, hidden_dim, latent_dim, width, depth, num_codes)
        self.out_modulation = nn.Linear(width, 2 * width)

    def forward(
        self,
        noise: Float[Tensor, "S N noise"],
        h: Float[Tensor, "N H"],
        code: Int[Tensor, "S N"] | None = None,
    ) -> Float[Tensor, "S N D"]:
        """See `NoiseNetwork`: the condition goes through the blocks."""
        stream, condition = self.noise_and_condition(noise, h, code)
        x, stream = condition.unsqueeze(0), F.silu(stream)
        for block in self.blocks:
            x = block(x, stream)
        shift, scale = self.out_modulation(stream).chunk(2, dim=-1)
        return self.out(F.silu(self.out_hidden(modulate(self.out_norm(x), shift, scale))))

    def condition_flops(self) -> int:
        """Reading h."""
        return linear_flops(self.condition_in)


def network_with(noise: str) -> type[NoiseNetwork]:
    """The network in which noise is what its name says: `input` or `modulation`.

    Raises:
        ValueError: For another name.
    """
    if noise not in ("input", "modulation"):
        raise ValueError(f"energy: noise must be input or modulation, got {noise!r}; input would do.")
    return NoiseMLP if noise == "input" else ModulatedMLP
