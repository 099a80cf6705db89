"""Past VAE: a decoder that also reads the chunks before, so that z carries only what they do not say.

CALM's decoder knows nothing but z, so z has to spell its chunk out, though most of a chunk follows from what
stands before it. Here the decoder gets the ids of the chunks before as well, p(chunk | z, past): the true
ones in training and under teacher forcing, and in generation those that the model has written. The prior
that a head learns is then of the rest.

Source: the VAE is that of Shao et al., Continuous Autoregressive Language Models, 2025, section 2.2,
https://arxiv.org/abs/2510.27688. A decoder that is conditioned on what the posterior's KL should not pay
for: Sohn et al., Learning Structured Output Representation using Deep Conditional Generative Models, NIPS
2015, section 4.1. That a code need not hold what an autoregressive decoder can see: Chen et al., Variational
Lossy Autoencoder, 2016, section 3.1. https://arxiv.org/abs/1611.02731
"""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from calmkit.autoencoders.vae import clipped_loss, gaussian
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Autoencoder,
    EventSpec,
    LossOutput,
    Past,
    PastReadingAutoencoder,
    Posterior,
    StatesCodingFlops,
    TokenAutoencoder,
)
from calmkit.nn.chunk_mlp import ChunkEncoder, ChunkMLP, init_normal
from calmkit.nn.settings import require_at_least, require_probability


@final
class PastVAE(TokenAutoencoder, PastReadingAutoencoder, StatesCodingFlops):
    """`vae` with a decoder that reads the chunks before its own.

    loss = sum over the K tokens of -log p(token | z, past) + kl_weight * sum_d max(kl_floor, KL_d), in nats
    per chunk, with one posterior draw z and the true past. A second encoder, of the same kind as the first,
    makes one vector of the past, which is added to what z becomes in the decoder; where no chunk stands, it
    reads the mask id. With that vector at 0 this is `vae`. The encoder of the posterior reads its own chunk
    alone. Dropout acts in `loss` alone, in train mode alone.

    In generation an error of the past is read like the truth, which training has not seen: `past_dropout`
    keeps the decoder from leaning on any single id.

    Args:
        vocab_size: V.
        past: P, chunks before that the decoder reads.
        chunk_size: K.
        latent_dim: D.
        hidden_dim: Width of the layers of encoder and decoder.
        ffn_dim: Width inside SwiGLU; None: 5/2 of `hidden_dim`.
        encoder_layers: Of the encoder, and of that of the past; half of them per token, half on the chunk.
        decoder_layers: As for the encoder.
        kl_weight: Factor on the clipped KL.
        kl_floor: Nats per dimension.
        token_dropout: Probability that the encoder reads the mask id in place of a token.
        latent_dropout: Probability that a dimension of z is zeroed; the others grow by 1 / (1 - p).
        past_dropout: Probability that the decoder reads the mask id in place of a token of the past.

    Raises:
        ValueError: A setting outside its range.

    Source:
        As `vae`; Sohn et al., 2015; Chen et al., 2016.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        past: int = 1,
        chunk_size: int = 4,
        latent_dim: int = 128,  # this and what follows as the VAE, to be comparable
        hidden_dim: int = 512,
        ffn_dim: int | None = None,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        kl_weight: float = 1e-3,
        kl_floor: float = 0.5,
        token_dropout: float = 0.15,
        latent_dropout: float = 0.15,
        past_dropout: float = 0.15,
    ) -> None:
        super().__init__()
        rates = {"token_dropout": token_dropout, "latent_dropout": latent_dropout}
        require_at_least("past_vae", 0, kl_weight=kl_weight, kl_floor=kl_floor)
        require_at_least("past_vae", 1, past=past)
        require_probability("past_vae", **rates, past_dropout=past_dropout)
        self.event = EventSpec((latent_dim,))
        self.chunk_size, self.past = chunk_size, past
        self.kl_weight, self.kl_floor = kl_weight, kl_floor
        self.token_dropout, self.latent_dropout = token_dropout, latent_dropout
        self.past_dropout = past_dropout
        sizes: dict[str, Any] = {"chunk_size": chunk_size, "hidden_dim": hidden_dim, "ffn_dim": ffn_dim}
        layers: dict[str, Any] = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        self.net = ChunkMLP("past_vae", vocab_size, latent_dim, 2, **sizes, **layers)
        inner = hidden_dim * 5 // 2 if ffn_dim is None else ffn_dim
        self.reader = ChunkEncoder(past * chunk_size, hidden_dim, inner, encoder_layers, hidden_dim)
        self.reader.apply(init_normal)

    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """Chunks of ids -> diagonal Gaussians; deterministic in both modes."""
        return gaussian(self.net.read(data))

    def decode(
        self, z: Float[Tensor, "*draws_and_units D"], past: Past | None = None
    ) -> Float[Tensor, "*draws_and_units K V"]:
        """Latents -> logits, behind a past."""
        return self.net.logits(z, self._read_past(past, z))

    @torch.no_grad()
    def to_data(
        self, z: Float[Tensor, "*draws_and_units D"], past: Past | None = None
    ) -> Int[Tensor, "*draws_and_units K"]:
        """Latents -> the most likely ids behind a past, in blocks of constant size."""
        return self.net.predict(z, self._read_past(past, z))

    def encode_flops(self) -> int:
        """See `ChunkMLP`."""
        return self.net.encode_flops()

    def decode_flops(self) -> int:
        """See `ChunkMLP`, and the past; it counts for each draw, though those of a unit share it."""
        return self.net.decode_flops() + self.reader.flops()

    def loss(self, data: Int[Tensor, "B L K"]) -> LossOutput:
        """Reconstruction behind the true past plus weighted, clipped KL, nats per chunk.

        Terms: those of `vae`.
        """
        posterior = self.encode(self.net.drop_tokens(data, self.token_dropout))
        z = F.dropout(posterior.sample()[0], self.latent_dropout, self.training)
        seen = self.net.drop_tokens(data, self.past_dropout)
        valid = torch.ones(data.shape[:2], dtype=torch.bool, device=data.device)
        logits = self.decode(z, Past.of_rows(seen, valid, self.past)[:, :-1])
        return clipped_loss(posterior, logits, data, self.kl_weight, self.kl_floor)

    def _read_past(self, past: Past | None, z: Tensor) -> Float[Tensor, "*units W"]:
        """One vector for the past of each unit; without any, one for all."""
        if past is None:
            ids = torch.full((self.past * self.chunk_size,), self.net.mask_id, device=z.device)
        else:
            known = past.known.unsqueeze(-1)  # [*units, P, 1]
            ids = past.data.masked_fill(~known, self.net.mask_id).flatten(-2)  # [*units, P*K]
        return self.reader(self.net.embedding(ids))


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"past_vae": PastVAE}
