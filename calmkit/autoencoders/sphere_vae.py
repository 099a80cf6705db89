"""Sphere VAE: every latent has the same norm, so a head has no scale to get wrong.

The encoder says a direction alone and the decoder reads a direction alone: the mean lies on the sphere of
radius sqrt(D), and whatever is decoded, a posterior's draw or a head's, is put back on it first. With a
radius that nobody chooses, a noise of given width is a noise of given angle, which no encoder can shrink by
growing its means; so there is no KL, and the noise alone keeps neighbouring latents alike.

Source: Ke and Xue, Hyperspherical Latents Improve Continuous-Token Autoregressive Generation, 2025.
https://arxiv.org/abs/2509.24335. Official code: guolinke/SphereAR, SphereAR/vae.py, SphereAR/psd.py and
SphereAR/model.py, of images; here the network is that of `vae`.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Autoencoder,
    EventSpec,
    LossOutput,
    Posterior,
    StatesCodingFlops,
    TokenAutoencoder,
)
from calmkit.nn.chunk_mlp import ChunkMLP, chunk_cross_entropy
from calmkit.nn.settings import require_probability


@final
class SphereVAE(TokenAutoencoder, StatesCodingFlops):
    """A VAE of constant norm: means on the sphere of radius sqrt(D), a noise of set width around them.

    loss = sum over the K tokens of -log p(token | onto(mean + sigma * noise)), nats per chunk, with onto(x) =
    sqrt(D) x / |x|. Train and eval mode share the formula, the draw included; only the dropouts are off in
    eval mode. `decode` and `to_data` begin with onto, so they do not depend on the length of what they get.

    What differs from the paper: its posterior is a Power Spherical law on the sphere whose concentration the
    encoder learns, with a KL to the uniform law. A `Posterior` is a Gaussian, so heads get N(mean, sigma^2
    I) here, whose draws lie beside the sphere with a mean square of 1 + sigma^2; pulled onto it they are at
    an angle of about atan(sigma) to the mean. That width is a setting and the KL of such a law constant. The
    paper also pulls onto the sphere what the backbone reads; here an embedder of latents reads draws as they
    are, in training and in generation.

    Args:
        vocab_size: V.
        chunk_size: K.
        latent_dim: D, 2 at least: the sphere of D = 1 has two points.
        hidden_dim: Width of the layers of encoder and decoder.
        ffn_dim: Width inside SwiGLU; None: 5/2 of `hidden_dim`.
        encoder_layers: Half of them per token, half on the chunk; an odd one on the chunk.
        decoder_layers: As for the encoder.
        sigma: Standard deviation of the posterior in each dimension, where the means have a mean square of 1.
        token_dropout: Probability that the encoder reads the mask id in place of a token.
        latent_dropout: Probability that a dimension of z is zeroed, before it is pulled onto the sphere.

    Raises:
        ValueError: A setting outside its range.

    Source:
        Ke and Xue, 2025 (S-VAE); the radius is that of the official code.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        chunk_size: int = 4,
        latent_dim: int = 128,  # as the VAE, to be comparable
        hidden_dim: int = 512,
        ffn_dim: int | None = None,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        sigma: float = 0.3,  # where the widths of CALM's own VAE settle (Shao et al., 2025, section 2.2)
        token_dropout: float = 0.15,  # as the VAE
        latent_dropout: float = 0.15,  # as the VAE
    ) -> None:
        super().__init__()
        require_probability("sphere_vae", token_dropout=token_dropout, latent_dropout=latent_dropout)
        if not sigma > 0:
            raise ValueError(f"sphere_vae: sigma must be above 0, got {sigma}; sigma=0.3 would do.")
        if latent_dim == 1:
            raise ValueError("sphere_vae: latent_dim must be at least 2, got 1; 2 would do.")
        self.event = EventSpec((latent_dim,))
        self.chunk_size = chunk_size
        self.sigma = sigma
        self.token_dropout, self.latent_dropout = token_dropout, latent_dropout
        sizes: dict[str, Any] = {"chunk_size": chunk_size, "hidden_dim": hidden_dim, "ffn_dim": ffn_dim}
        layers: dict[str, Any] = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        self.net = ChunkMLP("sphere_vae", vocab_size, latent_dim, 1, **sizes, **layers)

    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """Chunks of ids -> Gaussians of one width around points of the sphere, in both modes."""
        mean = onto_sphere(self.net.read(data))
        return Posterior(mean, torch.full_like(mean, math.log(self.sigma)))

    def decode(self, z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units K V"]:
        """Latents of any length -> logits."""
        return self.net.logits(onto_sphere(z))

    def to_data(self, z: Float[Tensor, "*units D"]) -> Int[Tensor, "*units K"]:
        """Latents of any length -> the most likely ids, in blocks of constant size."""
        return self.net.predict(onto_sphere(z))

    def encode_flops(self) -> int:
        """See `ChunkMLP`."""
        return self.net.encode_flops()

    def decode_flops(self) -> int:
        """See `ChunkMLP`."""
        return self.net.decode_flops()

    def loss(self, data: Int[Tensor, "B L K"]) -> LossOutput:
        """Reconstruction from a draw that is pulled onto the sphere, nats per chunk.

        Terms: `reconstruction`, nats per chunk; `resultant`, the length of the mean of all means over
        sqrt(D), in [0, 1]: 0 where latents lie evenly around the sphere, 1 where all are one;
        `token_accuracy` of the argmax, in [0, 1].
        """
        posterior = self.encode(self.net.drop_tokens(data, self.token_dropout))
        z = F.dropout(posterior.sample()[0], self.latent_dropout, self.training)
        logits = self.decode(z)
        reconstruction = chunk_cross_entropy(logits, data)
        with torch.no_grad():
            middle = posterior.mean.flatten(0, -2).mean(0)
            terms = {
                "reconstruction": reconstruction.mean(),
                "resultant": middle.square().mean().sqrt(),
                "token_accuracy": (logits.argmax(-1) == data).to(middle.dtype).mean(),
            }
        return LossOutput(reconstruction, terms)


def onto_sphere(z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units D"]:
    """z over its length, times sqrt(D): a mean square of 1. Zero, which has no direction, stays zero."""
    return F.normalize(z, dim=-1) * math.sqrt(z.shape[-1])


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"sphere_vae": SphereVAE}
