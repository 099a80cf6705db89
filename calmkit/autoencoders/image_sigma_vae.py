"""Sigma-VAE of images: LatentLM's autoencoder of fixed width, over a grid of latents.

The encoder says only the mean; the width is not learned, so no dimension can hide its variance where a head
needs some. In training the width itself is random, one scalar per image, so the decoder copes with errors of
many sizes; heads get the fixed width `sigma`, the mean of the absolute random ones. `sigma_vae` is the same
of text, where the random width is one scalar per unit.

Source: Sun et al., Multimodal Latent Language Modeling with Next-Token Diffusion, 2024.
https://arxiv.org/abs/2412.08635. Official code: microsoft/unilm,
LatentLM/tokenizer_models/modeling_sigma_vae.py, whose networks are vision transformers; here they are those
of `image_vae`.
"""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.autoencoders.sigma_vae import SCALE_MOMENTUM, WIDTH_RATIO
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Autoencoder,
    EventSpec,
    ImageAutoencoder,
    LossOutput,
    Posterior,
    StatesCodingFlops,
)
from calmkit.nn.conv_coder import ConvCoder
from calmkit.nn.pixel_likelihood import Reconstruction, pixel_nats, require_width
from calmkit.nn.psnr import psnr
from calmkit.nn.settings import require_at_least


@final
class ImageSigmaVAE(ImageAutoencoder, StatesCodingFlops):
    """A convolutional VAE whose encoder predicts the mean alone; the width is set, not learned.

    loss = -log p(image | x) / L + kl_weight * sum_d mean_d^2 / 2 of the unit, nats per unit, with x = mean +
    width * noise and one width ~ N(0, (sigma / 0.8)^2) per image. mean^2 / 2 is what KL(q || N(0, I)) keeps
    of the model when the width is not learned. Train and eval mode share the formula, the random width
    included.

    The value of a unit is z = x / scale with the posterior N(mean / scale, (sigma / scale)^2). The buffer
    `scale` is that of `sigma_vae`: sqrt(E mean^2 + sigma^2) over recent batches of `loss` in train mode, so
    z has a mean square of 1; the loss does not depend on it. A transform `normalise` finds little left to do.

    Args:
        image_shape: `(C, H, W)`.
        channels: Width at the first level.
        multipliers: Of that width, one per level; each level but the first halves height and width.
        blocks: ResNet blocks per level of the encoder; the decoder has one more.
        attention: At the lowest level, after each block and in the middle.
        latent_dim: D, of each unit.
        sigma: Standard deviation of the posterior, in units of the encoder's means.
        kl_weight: Factor on the KL. A larger one gives smaller means, so a posterior wider beside them.
        reconstruction: As of `image_vae`.
        pixel_width: As of `image_vae`.

    Raises:
        ValueError: A setting outside its range, or images that can't be halved that often.

    Source:
        Sun et al., 2024 (sigma-VAE); official code as named above.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        channels: int = 128,  # this and the next four as image_vae, to be comparable
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        attention: bool = True,
        latent_dim: int = 16,
        sigma: float = 0.75,  # `std` in the official code
        kl_weight: float = 1.0,
        reconstruction: Reconstruction = "mse",
        pixel_width: float = 0.1,
    ) -> None:
        super().__init__()
        require_at_least("image_sigma_vae", 0, kl_weight=kl_weight)
        require_width("image_sigma_vae", pixel_width)
        if not sigma > 0:
            raise ValueError(f"image_sigma_vae: sigma must be above 0, got {sigma}; 0.75 would do.")
        sizes: dict[str, Any] = {"channels": channels, "multipliers": multipliers, "blocks": blocks}
        self.net = ConvCoder("image_sigma_vae", image_shape, latent_dim, 1, **sizes, attention=attention)
        self.event, self.layout = EventSpec((latent_dim,)), self.net.layout
        self.sigma, self.kl_weight = sigma, kl_weight
        self.reconstruction, self.pixel_width = reconstruction, pixel_width
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(sigma)))

    def encode(self, data: Float[Tensor, "B C H W"]) -> Posterior:
        """Images -> Gaussians of one width in all dimensions; deterministic in both modes."""
        mean = self.net.read(data) / self.scale
        return Posterior(mean, (self.sigma / self.scale).log().expand_as(mean))

    def decode(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Latents -> images, not clipped."""
        return self.net.write(z * self.scale)

    def to_data(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Latents -> images within [-1, 1], in blocks of constant size."""
        return self.net.show(z * self.scale)

    def encode_flops(self) -> int:
        """Those of an image over its L units; see `ConvCoder`."""
        return self.net.encode_flops()

    def decode_flops(self) -> int:
        """Those of an image over its L units; see `ConvCoder`."""
        return self.net.decode_flops()

    def loss(self, data: Float[Tensor, "B C H W"]) -> LossOutput:
        """Reconstruction under a random width plus the weighted KL, nats per unit.

        Terms: `reconstruction`; `kl`, the part mean^2 / 2 alone, both in nats per unit; `rms` of the means;
        `std`, the mean absolute width drawn; `psnr` of the clipped reconstruction, in dB.
        """
        mean = self.net.read(data)  # [B, L, D]
        width = torch.randn_like(mean[:, :1, :1]) * (self.sigma / WIDTH_RATIO)
        decoded = self.net.write(mean + width * torch.randn_like(mean))
        image = data.to(decoded.dtype)
        nats = pixel_nats(decoded, image, self.reconstruction, self.pixel_width) / mean.shape[1]
        kl = mean.square().sum(-1) / 2
        with torch.no_grad():
            if self.training:
                now = (mean.square().mean() + self.sigma**2).sqrt()
                self.scale.lerp_(now.to(self.scale.dtype), SCALE_MOMENTUM)
            terms = {
                "reconstruction": nats.mean(),
                "kl": kl.mean(),
                "rms": mean.square().mean().sqrt(),
                "std": width.abs().mean(),
                "psnr": psnr(decoded.clamp(-1, 1), image),
            }
        return LossOutput(nats.unsqueeze(1) + self.kl_weight * kl, terms)


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"image_sigma_vae": ImageSigmaVAE}
