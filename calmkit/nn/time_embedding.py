"""The time of a flow or a diffusion as a vector: cosines and sines over many periods, then a small network.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), 2024, section 4
(the network of its diffusion loss, which CALM takes over). https://arxiv.org/abs/2406.11838
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 256  # width of the features: half cosines, half sines
MAX_PERIOD = 1e4  # how much slower the slowest wave is than the fastest
STEPS = 1000.0  # times of [0, 1] are read in thousandths, as if they were the steps of a diffusion
INIT_STD = 0.02  # of both layers


def time_features(
    t: Float[Tensor, "*rows"], dim: int = FREQUENCIES, max_period: float = MAX_PERIOD
) -> Float[Tensor, "*rows {dim}"]:
    """[cos(t w_i), sin(t w_i)] with w_i = max_period^(-i / (dim / 2)).

    Args:
        t: Times in steps (0 to 1000), not in [0, 1]. Half precision is computed in float32:
            bfloat16 has 8 bits and cannot tell 999 from 1000.
        dim: Even.
        max_period: How much slower the slowest wave is than the fastest, but for its last step.
    """
    t = t.to(torch.promote_types(t.dtype, torch.float32))
    order = torch.arange(dim // 2, dtype=t.dtype, device=t.device) / (dim // 2)
    angle = t[..., None] * torch.exp(-math.log(max_period) * order)
    return torch.cat([angle.cos(), angle.sin()], -1)


@final
class TimeEmbedding(nn.Module):
    """Linear(SiLU(Linear(features of scale * t))).

    Args:
        width: W, of the result.
        scale: Steps in a unit of the time; 1 for a time that is a timestep already.
        quantize: Cut scale * t to whole numbers, as CALM's released flow model does (`(t * 1000).long()`);
            for weights trained so, else only a loss of resolution.
    """

    def __init__(self, width: int, *, scale: float = STEPS, quantize: bool = False) -> None:
        super().__init__()
        self.scale, self.quantize = scale, quantize
        self.first = nn.Linear(FREQUENCIES, width)
        self.second = nn.Linear(width, width)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=INIT_STD)
            nn.init.zeros_(layer.bias)

    def forward(self, t: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows W"]:
        """Times, in [0, 1] by the default scale -> vectors in the dtype of the weights."""
        steps = t.to(torch.promote_types(t.dtype, torch.float32)) * self.scale
        if self.quantize:  # in float32, as the released code: float64 reads a solver's 0.65 as 649
            steps = (t.to(torch.float32) * self.scale).floor().to(steps.dtype)
        return self.second(F.silu(self.first(time_features(steps).to(self.first.weight.dtype))))
