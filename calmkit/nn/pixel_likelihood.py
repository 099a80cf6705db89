"""What a decoded image says of pixels: one width for all of them, around the decoded value.

A fixed width makes a squared or absolute error a likelihood, so a reconstruction and a KL are both in nats
and their sum, at equal weight, bounds the evidence.

Source: Kingma and Welling, Auto-Encoding Variational Bayes, 2013, appendix C.2 (Gaussian decoders).
https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Reconstruction = Literal["mse", "l1"]
"""The error that the likelihood rests on: squared (Gaussian) or absolute (Laplace)."""


def pixel_nats(
    decoded: Float[Tensor, "B C H W"],
    data: Float[Tensor, "B C H W"],
    reconstruction: Reconstruction,
    width: float,
) -> Float[Tensor, " B"]:
    """-log p(image | decoded), summed over its values: nats per image, below 0 where the density is above 1.

    Args:
        decoded: Where the likelihood is centred.
        data: Images.
        reconstruction: `mse`: N(decoded, width^2). `l1`: Laplace, with `width` its scale.
        width: In units of the images, which reach from -1 to 1.
    """
    error = ((decoded - data) / width).flatten(1)
    if reconstruction == "mse":
        per_value = error.square() / 2 + 0.5 * math.log(2 * math.pi)
    else:
        per_value = error.abs() + math.log(2)
    return (per_value + math.log(width)).sum(-1)


def require_width(part: str, pixel_width: float) -> None:
    """Refuse a likelihood without width.

    Raises:
        ValueError: Naming part and value.
    """
    if not pixel_width > 0:
        raise ValueError(f"{part}: pixel_width must be above 0, got {pixel_width}; 0.1 would do.")
