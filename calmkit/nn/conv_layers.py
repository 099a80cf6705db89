"""Layers of the convolutional autoencoders, and what they cost.

Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022.
https://arxiv.org/abs/2112.10752. Official code: CompVis/latent-diffusion,
ldm/modules/diffusionmodules/model.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6  # of the official code
MAX_GROUPS = 32  # of the official code
GROUP_WIDTH = 4  # channels per group at its narrowest level, 128; kept where 32 groups would be narrower


def group_norm(width: int) -> nn.GroupNorm:
    """32 groups, or fewer where a group would have less than 4 channels."""
    groups = math.gcd(width, max(1, min(MAX_GROUPS, width // GROUP_WIDTH)))
    return nn.GroupNorm(groups, width, eps=NORM_EPS)


@final
class NormedConv(nn.Module):
    """A convolution of silu(norm(x)) that keeps height and width."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Float[Tensor, "B width h w"]) -> Float[Tensor, "B out h w"]:
        """Normalise in the precision of the weights, under autocast too."""
        return self.conv(F.silu(self.norm(x.to(self.norm.weight.dtype))))


@final
class ResBlock(nn.Module):
    """x + two normed convolutions of x; x through a 1 x 1 convolution where the width changes."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first = NormedConv(width, out)
        self.second = NormedConv(out, out)
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Float[Tensor, "B width h w"]) -> Float[Tensor, "B out h w"]:
        """Autocast rounds products, not the residual stream."""
        x = x.to(self.first.norm.weight.dtype)
        return self.skip(x).to(x.dtype) + self.second(self.first(x))


@final
class GridAttention(nn.Module):
    """x + attention among the places of a grid, with one head and no positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.q, self.k, self.v, self.out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "B width h w"]) -> Float[Tensor, "B width h w"]:
        """Each place reads all places."""
        y = self.norm(x.to(self.norm.weight.dtype))
        q, k, v = (layer(y).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        read = F.scaled_dot_product_attention(q, k, v)  # [B, 1, h*w, width]
        return x + self.out(read.squeeze(1).transpose(1, 2).unflatten(2, x.shape[2:]))

    def product_flops(self, places: int) -> int:
        """Of the two products of queries, keys and values."""
        return 4 * places**2 * self.q.in_channels


@final
class Halve(nn.Module):
    """A convolution of stride 2 that is padded below and on the right alone, as the official code's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Float[Tensor, "B width h w"]) -> Float[Tensor, "B width h2 w2"]:
        """To half the height and width."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


@final
class Double(nn.Module):
    """Each value four times, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "B width h w"]) -> Float[Tensor, "B width h2 w2"]:
        """To twice the height and width."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def conv_flops(layers: Iterable[nn.Module], height: int, width: int) -> int:
    """FLOPs of one image of this size through layers in a row, 2 per multiply-add; padding counts as data."""
    total = 0
    for layer in layers:
        if isinstance(layer, Halve):
            height, width = height // 2, width // 2
        elif isinstance(layer, Double):
            height, width = height * 2, width * 2
        elif isinstance(layer, GridAttention):
            total += layer.product_flops(height * width)
        weights = sum(part.weight.numel() for part in layer.modules() if isinstance(part, nn.Conv2d))
        total += 2 * height * width * weights
    return total
