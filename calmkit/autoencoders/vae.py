"""VAE: CALM's autoencoder, made robust so that a head's small errors in z do not change the text.

A chunk of K tokens becomes a diagonal Gaussian over D numbers and is read back token by token. Three things
keep the latent smooth: a KL term whose dimensions are clipped from below, so that none collapses; dropped
tokens, which make z carry redundancy; dropped latent dimensions, which forbid reliance on any single one.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2.2, Eq. 4.
https://arxiv.org/abs/2510.27688
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
from calmkit.nn.chunk_mlp import (
    ChunkMLP,
    OddLayer,
    chunk_cross_entropy,
)
from calmkit.nn.settings import require_at_least, require_probability

# The official code leaves log_std free, so one stray unit can overflow exp(). The bounds are hard and far:
# trained widths are near e^-1.2 (section 2.2), inside nothing changes (official checkpoints keep their
# posteriors), and outside the KL of the dimension alone would be above 9 nats (e^-10, a point to every head)
# or 10^4 nats (e^5).
LOG_STD_RANGE = (-10.0, 5.0)

ACTIVE_VARIANCE = 0.01  # Burda et al., Importance Weighted Autoencoders, 2016, arXiv 1509.00519


@final
class VAE(TokenAutoencoder, StatesCodingFlops):
    """CALM's variational autoencoder with clipped KL and two kinds of dropout.

    loss = sum over the K tokens of -log p(token | z) + kl_weight * sum_d max(kl_floor, KL_d), in nats per
    chunk, with one posterior draw z. The floor holds for each dimension of each chunk; below it a dimension
    has no KL gradient. Train and eval mode share the formula, the draw included; only the dropouts are off in
    eval mode. Dropout acts in `loss` alone, so `encode` gives the same posterior in both modes.

    Args:
        vocab_size: V.
        chunk_size: K.
        latent_dim: D.
        hidden_dim: Width of the layers of encoder and decoder.
        ffn_dim: Width inside SwiGLU; None: 5/2 of `hidden_dim`.
        encoder_layers: Half of them per token, half on the chunk; an odd one on the chunk.
        decoder_layers: As for the encoder.
        kl_weight: Factor on the clipped KL.
        kl_floor: Nats per dimension.
        token_dropout: Probability that the encoder reads the mask id in place of a token.
        latent_dropout: Probability that a dimension of z is zeroed; the others grow by 1 / (1 - p).
        odd_layer: `unused` keeps an odd layer and never runs it, as the official code does.
        mask_id: Id of the token that dropped ones are read as; None: one of its own. The official code: 0.

    Raises:
        ValueError: A setting outside its range.

    Source:
        Shao et al., 2025, sections 2.2 and 7.1; official code shaochenze/calm, modeling_autoencoder.py.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        chunk_size: int = 4,
        latent_dim: int = 128,  # section 7.1: 32 per token
        hidden_dim: int = 512,
        ffn_dim: int | None = None,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        kl_weight: float = 1e-3,  # section 2.2
        kl_floor: float = 0.5,  # section 2.2
        token_dropout: float = 0.15,  # section 2.2
        latent_dropout: float = 0.15,  # section 2.2
        odd_layer: OddLayer = "chunk",
        mask_id: int | None = None,
    ) -> None:
        super().__init__()
        require_at_least("vae", 0, kl_weight=kl_weight, kl_floor=kl_floor)
        require_probability("vae", token_dropout=token_dropout, latent_dropout=latent_dropout)
        self.event = EventSpec((latent_dim,))
        self.chunk_size = chunk_size
        self.kl_weight, self.kl_floor = kl_weight, kl_floor
        self.token_dropout, self.latent_dropout = token_dropout, latent_dropout
        sizes: dict[str, Any] = {"chunk_size": chunk_size, "hidden_dim": hidden_dim, "ffn_dim": ffn_dim}
        sizes |= {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        sizes |= {"odd_layer": odd_layer, "mask_id": mask_id}
        self.net = ChunkMLP("vae", vocab_size, latent_dim, 2, **sizes)

    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """Chunks of ids -> diagonal Gaussians; deterministic in both modes."""
        return gaussian(self.net.read(data))

    def decode(self, z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units K V"]:
        """Latents -> logits."""
        return self.net.logits(z)

    def to_data(self, z: Float[Tensor, "*units D"]) -> Int[Tensor, "*units K"]:
        """Latents -> the most likely ids, in blocks of constant size."""
        return self.net.predict(z)

    def encode_flops(self) -> int:
        """See `ChunkMLP`."""
        return self.net.encode_flops()

    def decode_flops(self) -> int:
        """See `ChunkMLP`."""
        return self.net.decode_flops()

    def loss(self, data: Int[Tensor, "B L K"]) -> LossOutput:
        """Reconstruction plus weighted, clipped KL, nats per chunk.

        Terms: `reconstruction`, `kl` (unclipped) and `kl_clipped` in nats per chunk; `std`, the mean
        posterior standard deviation; `active_dims`, how many dimensions have a mean that varies over the
        units (Burda et al.); `token_accuracy` of the argmax, in [0, 1].
        """
        posterior = self.encode(self.net.drop_tokens(data, self.token_dropout))
        z = F.dropout(posterior.sample()[0], self.latent_dropout, self.training)
        return clipped_loss(posterior, self.decode(z), data, self.kl_weight, self.kl_floor)


def gaussian(said: Float[Tensor, "*units both"]) -> Posterior:
    """What the encoder says of units, means and log_stds one behind the other, as a posterior."""
    mean, log_std = said.chunk(2, -1)
    return Posterior(mean, log_std.clamp(*LOG_STD_RANGE))


def clipped_loss(
    posterior: Posterior,
    logits: Float[Tensor, "B L K V"],
    data: Int[Tensor, "B L K"],
    kl_weight: float,
    kl_floor: float,
) -> LossOutput:
    """Reconstruction and weighted, clipped KL, with the terms of `VAE.loss`, nats per chunk.

    Args:
        posterior: Of the chunks, with widths.
        logits: Decoded from a draw of it.
        data: What the chunks are.
        kl_weight: Factor on the clipped KL.
        kl_floor: Nats per dimension.
    """
    assert posterior.log_std is not None
    reconstruction = chunk_cross_entropy(logits, data)
    kl = posterior.kl()
    clipped = kl.clamp(min=kl_floor).sum(-1)
    with torch.no_grad():
        spread = posterior.mean.flatten(0, -2).var(0, correction=0)
        terms = {
            "reconstruction": reconstruction.mean(),
            "kl": kl.sum(-1).mean(),
            "kl_clipped": clipped.mean(),
            "std": posterior.log_std.exp().mean(),
            "active_dims": (spread > ACTIVE_VARIANCE).sum().to(spread.dtype),
            "token_accuracy": (logits.argmax(-1) == data).to(spread.dtype).mean(),
        }
    return LossOutput(reconstruction + kl_weight * clipped, terms)


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"vae": VAE}
