"""Sigma-VAE: LatentLM's autoencoder of fixed width, which cannot collapse.

The encoder says only the mean; the width is not learned, so no dimension can hide its variance where a head
needs some. In training the width itself is random, one scalar per unit, so the decoder copes with errors of
many sizes; heads get the fixed width `sigma`, the mean of the absolute random ones. Nothing keeps the means
near unit scale, so the value that heads see is divided by one running number, as LatentLM standardises its
latents.

Source: Sun et al., Multimodal Latent Language Modeling with Next-Token Diffusion, 2024.
https://arxiv.org/abs/2412.08635. Official code: microsoft/unilm,
LatentLM/tokenizer_models/modeling_sigma_vae.py.
"""

from __future__ import annotations

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
from calmkit.nn.settings import require_at_least, require_probability

# Widths of training are N(0, (sigma / 0.8)^2); 0.8 is sqrt(2 / pi) rounded, so E|width| = 0.997 sigma
# (official code).
WIDTH_RATIO = 0.8

SCALE_MOMENTUM = 0.1  # of the running scale, as in batch norm: one batch already holds thousands of numbers


@final
class SigmaVAE(TokenAutoencoder, StatesCodingFlops):
    """A VAE whose encoder predicts the mean alone; the width is set, not learned.

    loss = sum over the K tokens of -log p(token | x) + kl_weight * sum_d mean_d^2 / 2, nats per chunk, with x
    = mean + width * noise and one width ~ N(0, (sigma / 0.8)^2) per unit. mean^2 / 2 is what KL(q || N(0, I))
    keeps of the model when the width is not learned; the official code writes mean_d^2 averaged over d, and
    against a mean squared error of pixels, so its weight does not carry over. Train and eval mode share the
    formula, the random width included; only the dropouts are off in eval mode.

    The value of a unit is z = x / scale with the posterior N(mean / scale, (sigma / scale)^2). The buffer
    `scale`, sqrt(E mean^2 + sigma^2) over recent batches of `loss` in train mode, gives z a mean square of 1;
    the loss does not depend on it. (LatentLM estimates a scale and a shift on the first batch of its stage
    2.)

    Args:
        vocab_size: V.
        chunk_size: K.
        latent_dim: D.
        hidden_dim: Width of the layers of encoder and decoder.
        ffn_dim: Width inside SwiGLU; None: 5/2 of `hidden_dim`.
        encoder_layers: Half of them per token, half on the chunk; an odd one on the chunk.
        decoder_layers: As for the encoder.
        sigma: Standard deviation of the posterior, in units of the encoder's means.
        kl_weight: Factor on the KL. A larger one gives smaller means, so a posterior wider beside them.
        token_dropout: Probability that the encoder reads the mask id in place of a token.
        latent_dropout: Probability that a dimension of z is zeroed; the others grow by 1 / (1 - p).

    Raises:
        ValueError: A setting outside its range.

    Source:
        Sun et al., 2024 (sigma-VAE); official code as named above.
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
        sigma: float = 0.75,  # `std` in the official code
        kl_weight: float = 1e-3,
        token_dropout: float = 0.0,
        latent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_at_least("sigma_vae", 0, kl_weight=kl_weight)
        require_probability("sigma_vae", token_dropout=token_dropout, latent_dropout=latent_dropout)
        if not sigma > 0:
            raise ValueError(f"sigma_vae: sigma must be above 0, got {sigma}; sigma=0.75 would do.")
        self.event = EventSpec((latent_dim,))
        self.chunk_size = chunk_size
        self.sigma, self.kl_weight = sigma, kl_weight
        self.token_dropout, self.latent_dropout = token_dropout, latent_dropout
        sizes: dict[str, Any] = {"chunk_size": chunk_size, "hidden_dim": hidden_dim, "ffn_dim": ffn_dim}
        layers: dict[str, Any] = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        self.net = ChunkMLP("sigma_vae", vocab_size, latent_dim, 1, **sizes, **layers)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(sigma)))

    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """Chunks of ids -> Gaussians of one width in all dimensions; deterministic in both modes."""
        mean = self.net.read(data) / self.scale
        return Posterior(mean, (self.sigma / self.scale).log().expand_as(mean))

    def decode(self, z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units K V"]:
        """Latents -> logits."""
        return self.net.logits(z * self.scale)

    def to_data(self, z: Float[Tensor, "*units D"]) -> Int[Tensor, "*units K"]:
        """Latents -> the most likely ids, in blocks of constant size."""
        return self.net.predict(z * self.scale)

    def encode_flops(self) -> int:
        """See `ChunkMLP`."""
        return self.net.encode_flops()

    def decode_flops(self) -> int:
        """See `ChunkMLP`."""
        return self.net.decode_flops()

    def loss(self, data: Int[Tensor, "B L K"]) -> LossOutput:
        """Reconstruction under a random width plus the weighted KL, nats per chunk.

        Terms: `reconstruction`; `kl`, the part mean^2 / 2 alone, nats per chunk; `rms` of the means; `std`,
        the mean absolute width drawn; `token_accuracy` of the argmax, in [0, 1].
        """
        mean = self.net.read(self.net.drop_tokens(data, self.token_dropout))
        width = torch.randn_like(mean[..., :1]) * (self.sigma / WIDTH_RATIO)
        x = F.dropout(mean + width * torch.randn_like(mean), self.latent_dropout, self.training)
        logits = self.net.logits(x)
        reconstruction = chunk_cross_entropy(logits, data)
        kl = mean.square().sum(-1) / 2
        with torch.no_grad():
            if self.training:
                now = (mean.square().mean() + self.sigma**2).sqrt()
                self.scale.lerp_(now.to(self.scale.dtype), SCALE_MOMENTUM)
            terms = {
                "reconstruction": reconstruction.mean(),
                "kl": kl.mean(),
                "rms": mean.square().mean().sqrt(),
                "std": width.abs().mean(),
                "token_accuracy": (logits.argmax(-1) == data).to(mean.dtype).mean(),
            }
        return LossOutput(reconstruction + self.kl_weight * kl, terms)


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"sigma_vae": SigmaVAE}
