"""Reconstruction of images: the ceiling that the autoencoder sets for whatever is trained on it.

Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022, Table 8 (PSNR of
autoencoders). https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

from typing import final

import torch
import torchmetrics
from jaxtyping import Bool, Float
from torch import Tensor

from calmkit.nn.psnr import psnr_of


@final
class ImageReconstruction(torchmetrics.Metric):
    """How near images come back, in decibel.

    `psnr` and `mse` are measured through a posterior draw, what a head is trained on, `psnr_mean` through the
    posterior's mean. The squared error is averaged over all pixels of all images before its logarithm is
    taken. An image with an invalid unit, such as a row that only fills a batch, doesn't count.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    squares: Tensor
    squares_mean: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("squares", "squares_mean"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("values", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        images: Float[Tensor, "B C H W"],
        from_draw: Float[Tensor, "B C H W"],
        from_mean: Float[Tensor, "B C H W"],
        valid: Bool[Tensor, "B L"],
    ) -> None:
        """Add images in [-1, 1] and what `to_data` gives of a posterior draw and of the posterior's mean."""
        whole = valid.all(1)
        self.squares += (from_draw - images)[whole].square().sum()
        self.squares_mean += (from_mean - images)[whole].square().sum()
        self.values += images[whole].numel()

    def compute(self) -> dict[str, Tensor]:
        """`psnr` and `psnr_mean` in dB, infinite where every pixel came back; `mse`; NaN before any image."""
        mse = self.squares / self.values
        return {"psnr": psnr_of(mse), "psnr_mean": psnr_of(self.squares_mean / self.values), "mse": mse}
