"""Image VAE: a whole image to a grid of diagonal Gaussians, by convolutions, and back.

The beta-VAE that GIVT, MAR and EAR draw the latents of: LDM's KL-16 scaled down, without its perceptual and
adversarial losses, which ask for a second network. The error of a pixel is a likelihood of fixed width, so
reconstruction and KL are both in nats, and `kl_weight` 1 is a bound of the evidence.

Sources: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022, section 3.1.
https://arxiv.org/abs/2112.10752
Higgins et al., beta-VAE, 2017 (the weight of the KL). https://openreview.net/forum?id=Sy2fzU9gl
Tschannen et al., GIVT, 2023, section 3.1 (a beta-VAE under a transformer). https://arxiv.org/abs/2312.02116
"""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

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

# Hard and far, as LDM's of the log variance, (-30, 20); below e^-10 a posterior is a point to every head.
LOG_STD_RANGE = (-10.0, 10.0)

ACTIVE_VARIANCE = 0.01  # Burda et al., Importance Weighted Autoencoders, 2016, arXiv 1509.00519


@final
class ImageVAE(ImageAutoencoder, StatesCodingFlops):
    """A convolutional beta-VAE; the defaults are the layout of KL-16, for images of 256 x 256.

    loss = -log p(image | z) / L + kl_weight * KL(q || N(0, I)) of the unit, nats per unit: the first is
    shared out evenly over the L units of an image, whose sum is what counts. One posterior draw z; train and
    eval mode are the same.

    Args:
        image_shape: `(C, H, W)`.
        channels: Width at the first level.
        multipliers: Of that width, one per level; each level but the first halves height and width.
        blocks: ResNet blocks per level of the encoder; the decoder has one more.
        attention: At the lowest level, after each block and in the middle.
        latent_dim: D, of each unit.
        kl_weight: Factor on the KL, beta.
        reconstruction: `mse`: a Gaussian of width `pixel_width` around each decoded value; `l1`: a Laplace
            density of that scale, as LDM's (with scale 1 and a `kl_weight` of 1e-6).
        pixel_width: In units of the images, which reach from -1 to 1. A smaller one asks for nearer pixels.

    Raises:
        ValueError: A setting outside its range, or images that can't be halved that often.

    Source:
        Rombach et al., 2022, section 3.1; official configuration
        configs/autoencoder/autoencoder_kl_16x16x16.yaml.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        attention: bool = True,
        latent_dim: int = 16,
        kl_weight: float = 1.0,
        reconstruction: Reconstruction = "mse",
        pixel_width: float = 0.1,
    ) -> None:
        super().__init__()
        require_at_least("image_vae", 0, kl_weight=kl_weight)
        require_width("image_vae", pixel_width)
        sizes: dict[str, Any] = {"channels": channels, "multipliers": multipliers, "blocks": blocks}
        self.net = ConvCoder("image_vae", image_shape, latent_dim, 2, **sizes, attention=attention)
        self.event, self.layout = EventSpec((latent_dim,)), self.net.layout
        self.kl_weight, self.reconstruction, self.pixel_width = kl_weight, reconstruction, pixel_width

    def encode(self, data: Float[Tensor, "B C H W"]) -> Posterior:
        """Images -> diagonal Gaussians; deterministic in both modes."""
        mean, log_std = self.net.read(data).chunk(2, -1)
        return Posterior(mean, log_std.clamp(*LOG_STD_RANGE))

    def decode(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Latents -> images, not clipped."""
        return self.net.write(z)

    def to_data(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Latents -> images within [-1, 1], in blocks of constant size."""
        return self.net.show(z)

    def encode_flops(self) -> int:
        """Those of an image over its L units; see `ConvCoder`."""
        return self.net.encode_flops()

    def decode_flops(self) -> int:
        """Those of an image over its L units; see `ConvCoder`."""
        return self.net.decode_flops()

    def loss(self, data: Float[Tensor, "B C H W"]) -> LossOutput:
        """Reconstruction plus weighted KL, nats per unit.

        Terms: `reconstruction` and `kl` in nats per unit; `std`, the mean posterior standard deviation;
        `active_dims`, how many dimensions have a mean that varies over the units (Burda et al.); `psnr` of
        the clipped reconstruction from the draw, in dB.
        """
        posterior = self.encode(data)
        decoded = self.decode(posterior.sample()[0])
        kl = posterior.kl().sum(-1)  # [B, L]
        image = data.to(decoded.dtype)
        nats = pixel_nats(decoded, image, self.reconstruction, self.pixel_width) / kl.shape[1]
        with torch.no_grad():
            spread = posterior.mean.flatten(0, -2).var(0, correction=0)
            assert posterior.log_std is not None
            terms = {
                "reconstruction": nats.mean(),
                "kl": kl.mean(),
                "std": posterior.log_std.exp().mean(),
                "active_dims": (spread > ACTIVE_VARIANCE).sum().to(spread.dtype),
                "psnr": psnr(decoded.clamp(-1, 1), image),
            }
        return LossOutput(nats.unsqueeze(1) + self.kl_weight * kl, terms)


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"image_vae": ImageVAE}
