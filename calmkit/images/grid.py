"""A grid of images as one PNG."""

from __future__ import annotations

import io
import math
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

GREY = 128  # of gaps and empty places: neither the black nor the white of an image
VISIBLE = 64  # pixels: a side that a person can look at


def to_bytes(images: Float[Tensor, "*N C H W"]) -> UInt8[Tensor, "*N C H W"]:
    """From [-1, 1] to 0..255, rounded and clipped: what `ImageRows` made of bytes becomes them again.

    Raises:
        ValueError: A value is infinite or no number.
    """
    if not torch.isfinite(images).all():
        raise ValueError("images hold values that are not finite; what drew them has diverged")
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def grid(
    images: Float[Tensor, "N C H W"], columns: int, scale: int | None = None
) -> UInt8[Tensor, "C height width"]:
    """Images in rows of `columns`, with grey gaps of half a pixel of theirs between and around them, which
    a page that shows the grid a little smaller still shows.

    Args:
        images: In [-1, 1], row by row; at least one.
        columns: At least 1. Places that stay empty are grey.
        scale: How often each pixel is repeated both ways; None: so often that images are 64 or more high and
            wide.

    Raises:
        ValueError: No image, no column, a scale below 1, or a value that is not finite.
    """
    count, channels, height, width = images.shape
    if count < 1 or columns < 1:
        raise ValueError(f"a grid needs an image and a column, got {count} images in {columns} columns")
    scale = math.ceil(VISIBLE / min(height, width)) if scale is None else scale
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    large = to_bytes(images).repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    gap = max(1, scale // 2)
    down, across = height * scale + gap, width * scale + gap
    rows = -(-count // columns)
    sheet = large.new_full((channels, rows * down + gap, columns * across + gap), GREY)
    for number, image in enumerate(large):
        top, left = number // columns * down + gap, number % columns * across + gap
        sheet[:, top : top + down - gap, left : left + across - gap] = image
    return sheet


def write_grid(
    path: Path, images: Float[Tensor, "N C H W"], *, columns: int, scale: int | None = None
) -> None:
    """Write a `grid` as PNG, whatever the suffix of the path; C is 1 or 3.

    Raises:
        ValueError: As `grid`, or for another number of channels.
        OSError: The file cannot be written.
    """
    from PIL import Image

    if images.shape[1] not in (1, 3):
        raise ValueError(f"a PNG has 1 channel or 3, got {images.shape[1]}")
    sheet = grid(images.detach().cpu(), columns, scale).permute(1, 2, 0).numpy()  # [height, width, C]
    content = io.BytesIO()
    Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet).save(content, format="PNG")
    path.write_bytes(content.getvalue())
