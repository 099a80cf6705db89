"""Deterministic: an autoencoder whose posterior is a point, the plain one that CALM starts from.

Only reconstruction is learned, so nothing makes neighbouring latents read alike: a head's small error in z
may change the text. The lesson is the comparison with `vae`. Without a KL nothing sets the scale of z either,
yet heads start from unit noise; so z is divided by its own root mean square, which puts every unit on the
sphere of radius sqrt(D) and gives the latents a mean square of exactly 1 from the first step on.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2.1.
https://arxiv.org/abs/2510.27688. Latents of constant norm: Ke and Xue, Hyperspherical Latents Improve
Continuous-Token Autoregressive Generation, 2025. https://arxiv.org/abs/2509.24335
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
from calmkit.nn.settings import require_probability
from calmkit.nn.swiglu import NORM_EPS


@final
class DeterministicAutoencoder(TokenAutoencoder, StatesCodingFlops):
    """Reconstruction only: the latent of a chunk is a point on a sphere.

    loss = sum over the K tokens of -log p(token | z), nats per chunk. Dropout acts in `loss` alone, in train
    mode alone.

    Args:
        vocab_size: V.
        chunk_size: K.
        latent_dim: D. At D = 1 the sphere has two points; set `unit_rms` to false there.
        hidden_dim: Width of the layers of encoder and decoder.
        ffn_dim: Width inside SwiGLU; None: 5/2 of `hidden_dim`.
        encoder_layers: Half of them per token, half on the chunk; an odd one on the chunk.
        decoder_layers: As for the encoder.
        unit_rms: Divide z by its root mean square over D. False: the encoder's output as it is, of any scale.
        token_dropout: Probability that the encoder reads the mask id in place of a token.
        latent_dropout: Probability that a dimension of z is zeroed; the others grow by 1 / (1 - p).

    Raises:
        ValueError: A setting outside its range.

    Source:
        Shao et al., 2025, section 2.1.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        chunk_size: int = 4,
        latent_dim: int = 128,  # as the VAE, to be comparable; section 2.1 finds 10 enough at K=4
        hidden_dim: int = 512,
        ffn_dim: int | None = None,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        unit_rms: bool = True,
        token_dropout: float = 0.0,
        latent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_probability("deterministic", token_dropout=token_dropout, latent_dropout=latent_dropout)
        if unit_rms and latent_dim == 1:
            raise ValueError(
                "deterministic: latent_dim must be at least 2 with unit_rms, got 1; 2, or "
                "unit_rms=false, would do."
            )
        self.event = EventSpec((latent_dim,))
        self.chunk_size = chunk_size
        self.unit_rms = unit_rms
        self.token_dropout, self.latent_dropout = token_dropout, latent_dropout
        sizes: dict[str, Any] = {"chunk_size": chunk_size, "hidden_dim": hidden_dim, "ffn_dim": ffn_dim}
        layers: dict[str, Any] = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        self.net = ChunkMLP("deterministic", vocab_size, latent_dim, 1, **sizes, **layers)

    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """Chunks of ids -> points; deterministic in both modes."""
        z = self.net.read(data)
        return Posterior(F.rms_norm(z, z.shape[-1:], eps=NORM_EPS) if self.unit_rms else z)

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
        """Reconstruction, nats per chunk.

        Terms: `reconstruction`, nats per chunk; `rms` of the latents; `token_accuracy` of the argmax, in [0,
        1].
        """
        z = self.encode(self.net.drop_tokens(data, self.token_dropout)).mean
        logits = self.decode(F.dropout(z, self.latent_dropout, self.training))
        reconstruction = chunk_cross_entropy(logits, data)
        with torch.no_grad():
            terms = {
                "reconstruction": reconstruction.mean(),
                "rms": z.square().mean().sqrt(),
                "token_accuracy": (logits.argmax(-1) == data).to(z.dtype).mean(),
            }
        return LossOutput(reconstruction, terms)


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"deterministic": DeterministicAutoencoder}
