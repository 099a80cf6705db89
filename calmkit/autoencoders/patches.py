"""Patches: the identity. A unit's value is a square of the image itself, so pixels are modelled directly.

8-bit images have few grey levels, and a density on points can grow without end by sitting on them; `noise`
gives each value a width, so that a density head has something to spread over.

Sources: Dosovitskiy et al., An Image is Worth 16x16 Words, 2020, section 3.1 (patches).
https://arxiv.org/abs/2010.11929
Theis et al., A Note on the Evaluation of Generative Models, 2015, section 3.1 (noise on 8-bit data).
https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

import math
from typing import NoReturn, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Autoencoder,
    EventSpec,
    ImageAutoencoder,
    NotTrainable,
    Posterior,
    StatesCodingFlops,
)
from calmkit.nn.settings import require_at_least


@final
class Patches(ImageAutoencoder, StatesCodingFlops):
    """Squares of p x p pixels as they are; there is nothing to learn.

    A value holds the squares of all channels, one channel after the other, each in raster order: D = C p^2.

    Args:
        image_shape: `(C, H, W)`.
        patch: p, a divisor of H and W.
        noise: Standard deviation of the posterior, in units of the images, which reach from -1 to 1; the mean
            stays the exact patch. 0: a point, at which a density head degenerates. Steps between the levels
            of 8-bit images are 2 / 255 = 0.0078, between the 17 of scikit-learn's digits 0.125.

    Raises:
        ValueError: A patch that does not divide the image, or a negative noise.

    Source:
        Dosovitskiy et al., 2020, section 3.1; Theis et al., 2015, section 3.1.
    """

    def __init__(self, image_shape: tuple[int, int, int], *, patch: int = 2, noise: float = 0.0) -> None:
        super().__init__()
        require_at_least("patches", 1, patch=patch)
        require_at_least("patches", 0, noise=noise)
        channels, height, width = image_shape
        if height % patch or width % patch:
            fit = [str(p) for p in range(1, min(height, width) + 1) if height % p == width % p == 0]
            raise ValueError(
                f"patches: patch must divide height and width, got {patch} for images of {height} x {width}; "
                f"{' or '.join(fit)} would do."
            )
        self.event = EventSpec((channels * patch * patch,))
        self.layout = (height // patch, width // patch)
        self.image_shape, self.patch, self.noise = image_shape, patch, noise

    def encode(self, data: Float[Tensor, "B C H W"]) -> Posterior:
        """The patches themselves, as points or with the width of `noise`."""
        mean = F.pixel_unshuffle(data, self.patch).flatten(2).transpose(1, 2)  # [B, L, D]
        return Posterior(mean, torch.full_like(mean, math.log(self.noise)) if self.noise else None)

    def decode(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """The patches put together."""
        grids = z.transpose(-1, -2).unflatten(-1, self.layout)  # [*B, D, h, w]
        return F.pixel_shuffle(grids, self.patch)

    def to_data(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """The patches put together, clipped to [-1, 1]."""
        return self.decode(z).clamp(-1, 1)

    def encode_flops(self) -> int:
        """Nothing is multiplied."""
        return 0

    def decode_flops(self) -> int:
        """Nothing is multiplied."""
        return 0

    def loss(self, data: Float[Tensor, "B C H W"]) -> NoReturn:
        """Refuse: an identity has no stage 1.

        Raises:
            NotTrainable: Always.
        """
        del data
        raise NotTrainable("patches has no parameters: leave stage 'autoencoder' out of the recipe.")


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"patches": Patches}
