"""The network that autoencoders of images share: whole images to a grid of latents, and back.

The layout is LDM's KL-16: at each level ResNet blocks, then half the size; at the lowest level attention
after each block and in the middle; the decoder mirrors it with one block more per level. With width 128, the
multipliers 1, 1, 2, 2, 4, two blocks and attention it is KL-16, layer for layer.

Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022.
https://arxiv.org/abs/2112.10752. Official code: CompVis/latent-diffusion; agreement with the diffusers port
of it: tests/nn/test_conv_coder.py. GIVT's CNN has the same widths, average pooling in place of strided
convolutions, no attention and no extra block (google-research/big_vision, models/proj/givt/cnn.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calmkit.nn.conv_layers import Double, GridAttention, Halve, NormedConv, ResBlock, conv_flops
from calmkit.nn.settings import require_at_least

# Largest tensor that `ConvCoder.show` makes, in elements (one image's at least): 64 MiB in float32.
BLOCK_ELEMENTS = 2**24


@final
class ConvCoder(nn.Module):
    """Encoder and decoder, convolutions throughout.

    Args:
        part: Name of the autoencoder, for messages.
        image_shape: `(C, H, W)`.
        latent_dim: D.
        stats: Numbers per latent dimension that the encoder gives: 1 (mean) or 2 (mean, log_std).
        channels: Width at the first level.
        multipliers: Of that width, one per level; each level but the first halves height and width.
        blocks: ResNet blocks per level of the encoder; the decoder has one more.
        attention: At the lowest level.

    Attributes:
        layout: The grid of latents `(h, w)`.

    Raises:
        ValueError: A size that leaves nothing to build, or images that can't be halved that often.
    """

    def __init__(
        self,
        part: str,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        stats: int,
        *,
        channels: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: bool,
    ) -> None:
        super().__init__()
        require_at_least(part, 1, channels=channels, blocks=blocks, latent_dim=latent_dim)
        self.image_shape = image_shape
        self.layout = _layout(part, image_shape, multipliers)
        widths = [channels * multiplier for multiplier in multipliers]
        plan = (widths, blocks, attention)
        self.encoder = nn.Sequential(*_encoder(image_shape[0], stats * latent_dim, *plan))
        self.decoder = nn.Sequential(*_decoder(latent_dim, image_shape[0], *plan))
        self.widest = max(widths) * image_shape[1] * image_shape[2]  # elements per image, at most

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, to which images are cast and in which everything comes out, autocast or not."""
        return next(self.parameters()).dtype

    def read(self, data: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L out"]:
        """Images -> what the encoder says of each place, in raster order."""
        grid = self.encoder(data.to(self.dtype))  # [B, out, h, w]
        return grid.flatten(2).transpose(1, 2).to(self.dtype)

    def write(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Latents -> images, not clipped."""
        grids = z.to(self.dtype).transpose(-1, -2).unflatten(-1, self.layout)  # [*B, D, h, w]
        images = self.decoder(grids.reshape(-1, *grids.shape[-3:])).to(self.dtype)
        return images.view(*z.shape[:-2], *self.image_shape)

    @torch.no_grad()
    def show(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Latents -> images within [-1, 1], in blocks: layers of all draws never exist at once."""
        rows = z.reshape(-1, *z.shape[-2:]).split(max(1, BLOCK_ELEMENTS // self.widest))
        images = torch.cat([self.write(block).clamp(-1, 1) for block in rows])
        return images.view(*z.shape[:-2], *self.image_shape)

    def encode_flops(self) -> int:
        """Of one unit: an image's over L, a whole number, since every layer has h w places or a multiple."""
        return self._per_unit(conv_flops(self.encoder, *self.image_shape[1:]))

    def decode_flops(self) -> int:
        """Of one unit, as `encode_flops`."""
        return self._per_unit(conv_flops(self.decoder, *self.layout))

    def _per_unit(self, flops: int) -> int:
        return flops // math.prod(self.layout)


def _layout(part: str, image_shape: tuple[int, int, int], multipliers: tuple[int, ...]) -> tuple[int, int]:
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"{part}: multipliers must be 1 or more, got {list(multipliers)}; [1, 2] would do.")
    _, height, width = image_shape
    factor = 2 ** (len(multipliers) - 1)
    if height % factor or width % factor:
        shared = math.gcd(height, width)
        most = (shared & -shared).bit_length()  # the largest power of 2 in both, and the level before it
        raise ValueError(
            f"{part}: {len(multipliers)} multipliers halve an image {len(multipliers) - 1} times, so height "
            f"and width must be divisible by {factor}, got {height} x {width}; for such images at most "
            f"{most} multiplier{'s' if most > 1 else ''} would do."
        )
    return height // factor, width // factor


def _level(width: int, out: int, blocks: int, attention: bool) -> Iterator[nn.Module]:
    for i in range(blocks):
        yield ResBlock(out if i else width, out)
        if attention:
            yield GridAttention(out)


def _middle(width: int, attention: bool) -> Iterator[nn.Module]:
    yield ResBlock(width, width)
    if attention:
        yield GridAttention(width)
    yield ResBlock(width, width)


def _encoder(inside: int, out: int, widths: list[int], blocks: int, attention: bool) -> Iterator[nn.Module]:
    yield nn.Conv2d(inside, widths[0], 3, padding=1)
    for i, width in enumerate(widths):
        last = i == len(widths) - 1
        yield from _level(widths[max(0, i - 1)], width, blocks, attention and last)
        if not last:
            yield Halve(width)
    yield from _middle(widths[-1], attention)
    yield NormedConv(widths[-1], out)
    yield nn.Conv2d(out, out, 1)


def _decoder(inside: int, out: int, widths: list[int], blocks: int, attention: bool) -> Iterator[nn.Module]:
    yield nn.Conv2d(inside, inside, 1)
    yield nn.Conv2d(inside, widths[-1], 3, padding=1)
    yield from _middle(widths[-1], attention)
    for i in reversed(range(len(widths))):
        last = i == len(widths) - 1
        yield from _level(widths[i if last else i + 1], widths[i], blocks + 1, attention and last)
        if i:
            yield Double(widths[i])
    yield NormedConv(widths[0], out)
