"""The official network of the energy head, noise and condition to a latent, and what others share with it.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 3.3.3.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.heads.energy_score import at_least_float32
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.swiglu import NORM_EPS


class NoiseNetwork(nn.Module, ABC):
    """A network with the noise of its draws: both at width W with the condition, blocks, and the last layers.

    The last layer starts at 0, so every draw of a fresh network is 0.

    Args:
        noise_dim: Width of the noise.
        hidden_dim: H.
        latent_dim: D.
        width: W.
        depth: Blocks.
        num_codes: C, learned vectors of which each draw adds one to its noise; 0: there are none.

    Attributes:
        block: Made with the width, `depth` times.
    """

    block: ClassVar[type[nn.Module]]

    def __init__(
        self, noise_dim: int, hidden_dim: int, latent_dim: int, width: int, depth: int, num_codes: int = 0
    ) -> None:
        super().__init__()
        self.noise_dim, self.num_codes = noise_dim, num_codes
        self.noise_in = nn.Linear(noise_dim, width)
        self.noise_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.condition_in = nn.Linear(hidden_dim, width)
        self.condition_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(self.block(width) for _ in range(depth))
        self.out_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.out_hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, latent_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        if num_codes > 0:  # last: with codes and without, one seed starts the layers above the same
            self.codes = nn.Embedding(num_codes, width)  # N(0, 1): as large as the noise behind its norm

    @abstractmethod
    def forward(
        self, noise: Float[Tensor, "S N noise"], h: Float[Tensor, "N H"], code: Int[Tensor, "S N"] | None
    ) -> Float[Tensor, "S N D"]:
        """One draw per noise; the condition is read once for all S.

        Args:
            noise: Of each draw.
            h: Of each unit.
            code: Of each draw, below C; None where there are none.
        """

    @abstractmethod
    def condition_flops(self) -> int:
        """What all draws of a unit share."""

    @final
    def draw(
        self,
        h: Float[Tensor, "N H"],
        num: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "num N D"]:
        """Independent draws: noise uniform on [-t/2, t/2), and a code by a fair die, for each of them."""
        # Uniform numbers drawn in bfloat16 take 256 values only: draw wide, then round.
        shape, wide = (num, len(h)), at_least_float32(h.dtype)
        noise = torch.rand((*shape, self.noise_dim), dtype=wide, device=h.device, generator=generator)
        code = None
        if self.num_codes > 0:
            code = torch.randint(self.num_codes, shape, device=h.device, generator=generator)
        return self(((noise - 0.5) * temperature).to(h.dtype), h, code)

    @final
    def noise_and_condition(
        self, noise: Float[Tensor, "S N noise"], h: Float[Tensor, "N H"], code: Int[Tensor, "S N"] | None
    ) -> tuple[Float[Tensor, "S N W"], Float[Tensor, "N W"]]:
        """Both at width W; the noise with the code of each draw."""
        stream = self.noise_norm(self.noise_in(noise))
        if code is not None:
            stream = stream + self.codes(code)
        return stream, self.condition_norm(self.condition_in(h))


@final
class NoiseBlock(nn.Module):
    """x + down(silu(gate) * up), where gate and up come from an MLP on (LayerNorm(x), condition).

    `join` is one Linear on the concatenation, as in the official checkpoints (its first W columns read x, the
    others the condition), but is applied in two parts, because the condition's is the same for all draws.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.join = nn.Linear(2 * width, width)
        self.middle = nn.Linear(width, width)
        self.gate_up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "S N W"], condition: Float[Tensor, "N W"]) -> Float[Tensor, "S N W"]:
        """One residual step of the noise stream."""
        from_x, from_condition = self.join.weight.chunk(2, dim=1)
        joined = F.linear(self.norm(x), from_x) + F.linear(condition, from_condition, self.join.bias)
        gate, up = self.gate_up(F.silu(self.middle(F.silu(joined)))).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


@final
class NoiseMLP(NoiseNetwork):
    """The official `MLPGenerator`, parameter for parameter where there are no codes."""

    block = NoiseBlock

    def forward(
        self,
        noise: Float[Tensor, "S N noise"],
        h: Float[Tensor, "N H"],
        code: Int[Tensor, "S N"] | None = None,
    ) -> Float[Tensor, "S N D"]:
        """See `NoiseNetwork`: the noise goes through the blocks."""
        x, condition = self.noise_and_condition(noise, h, code)
        for block in self.blocks:
            x = block(x, condition)
        # In one expression: under autocast the norm gives float32, and a name would keep it to the end.
        return self.out(F.silu(self.out_hidden(self.out_norm(x))))

    def condition_flops(self) -> int:
        """Reading h, and the condition's half of every `join`."""
        width = self.out_hidden.in_features
        return linear_flops(self.condition_in) + len(self.blocks) * 2 * width**2
