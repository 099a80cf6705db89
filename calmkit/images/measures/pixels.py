"""Pixels: the one form in which the measures of this room see images, float32 in [-1, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

SMALLEST_SIDE = 8
SLACK = 1e-3  # rounding of whoever scaled the images


@torch.no_grad()
def pixels(images: Shaped[Tensor, "N C H W"], whose: str, *, clip: bool = False) -> Float[Tensor, "N C H W"]:
    """Images as float32 in [-1, 1] on the CPU.

    Args:
        images: Bytes from 0 to 255, or floats in [-1, 1].
        whose: Named in errors, such as `drawn`.
        clip: Cut what lies outside, as showing an image does; meant for images that a model drew.

    Raises:
        ValueError: For no images, a side below 8, values that are no numbers, or, without `clip`, floats
            outside [-1, 1].
    """
    if len(images) == 0 or min(images.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(
            f"{whose} images are measured from one image on and from sides of {SMALLEST_SIDE} on, "
            f"got {list(images.shape)}."
        )
    if images.dtype == torch.uint8:
        return images.cpu().float() / 127.5 - 1
    values = images.detach().cpu().float()
    broken = int((~values.isfinite()).flatten(1).any(1).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(values)} {whose} images hold values that are no numbers; "
            "they cannot be measured. A model that draws such has diverged."
        )
    if not clip and values.abs().max() > 1 + SLACK:
        raise ValueError(
            f"{whose} images reach from {values.min():g} to {values.max():g}; "
            "give bytes (uint8), or floats scaled to [-1, 1]."
        )
    return values.clamp(-1, 1)


def labels_of(
    labels: Shaped[Tensor, " M"] | None, images: Shaped[Tensor, "N C H W"], whose: str
) -> Tensor | None:
    """Labels as int64 on the CPU; None stays None.

    Raises:
        ValueError: For another number of labels than images, or a label that is no whole number from 0 on.
    """
    if labels is None:
        return None
    if labels.is_floating_point() or len(labels) != len(images) or (labels < 0).any():
        raise ValueError(
            f"{whose} labels are whole numbers from 0 on, one for each of the {len(images)} images, "
            f"got {len(labels)} of {labels.dtype}, the least {labels.min() if len(labels) else 'of none'}."
        )
    return labels.detach().cpu().long()
