"""The network that CALM's autoencoder and its relatives share: residual MLPs over single chunks.

Half of the layers work on each token alone, half on one vector for the whole chunk; chunks never see each
other. One embedding is also the vocabulary projection, and its last row is a mask id that stands for a
dropped token and is never predicted; a mask id below V is a real token that dropped ones are read as.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2.1.
https://arxiv.org/abs/2510.27688

The official code never runs the extra layer of an odd count, writes a dropped token as the real id 0 and
makes all logits before an argmax; this file does the first two only where its checkpoints ask for it.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import require_at_least
from calmkit.nn.swiglu import NORM_EPS, SwiGLUBlock

OddLayer = Literal["chunk", "unused"]
"""What becomes of the last layer of an odd count: it works on the chunk vector, or is kept and never run."""

INIT_STD = 0.02  # initializer_range of the official configuration

# Largest tensor that `ChunkMLP.predict` makes, in elements (one unit's logits at least): 64 MiB in float32.
BLOCK_ELEMENTS = 2**24


def init_normal(module: nn.Module) -> None:
    """Linear and embedding weights from N(0, 0.02^2), biases 0. For `nn.Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


@final
class ChunkEncoder(nn.Module):
    """K embedded tokens -> one vector. An odd layer goes to the chunk vector, where it costs a K-th."""

    def __init__(
        self,
        chunk_size: int,
        hidden_dim: int,
        ffn_dim: int,
        layers: int,
        out_dim: int,
        *,
        odd_layer: OddLayer = "chunk",
    ) -> None:
        super().__init__()
        unused = layers % 2 if odd_layer == "unused" else 0
        self.tokens = _blocks(layers // 2, hidden_dim, ffn_dim)
        self.squeeze = nn.Linear(chunk_size * hidden_dim, hidden_dim)
        self.chunk = _blocks(layers - layers // 2 - unused, hidden_dim, ffn_dim)
        self.unused = _blocks(unused, hidden_dim, ffn_dim).requires_grad_(False)
        self.norm = nn.RMSNorm(hidden_dim, eps=NORM_EPS)
        self.out = nn.Linear(hidden_dim, out_dim)

    def forward(self, x: Float[Tensor, "*units K W"]) -> Float[Tensor, "*units out"]:
        """Read each chunk by itself."""
        x = self.tokens(x).flatten(-2)  # [*units, K*W]
        x = self.squeeze(x).to(self.squeeze.weight.dtype)  # autocast rounds products, not the residual stream
        return self.out(self.norm(self.chunk(x)))

    def flops(self) -> int:
        """Of one chunk."""
        per_token = (self.squeeze.in_features // self.squeeze.out_features) * linear_flops(self.tokens)
        return per_token + linear_flops(self.squeeze, self.chunk, self.out)


@final
class ChunkDecoder(nn.Module):
    """One latent -> K hidden vectors for the vocabulary. An odd layer goes to the chunk vector."""

    def __init__(
        self,
        chunk_size: int,
        hidden_dim: int,
        ffn_dim: int,
        layers: int,
        latent_dim: int,
        *,
        odd_layer: OddLayer = "chunk",
    ) -> None:
        super().__init__()
        unused = layers % 2 if odd_layer == "unused" else 0
        self.chunk_size = chunk_size
        self.into = nn.Linear(latent_dim, hidden_dim)
        self.chunk = _blocks(layers - layers // 2 - unused, hidden_dim, ffn_dim)
        self.unused = _blocks(unused, hidden_dim, ffn_dim).requires_grad_(False)
        self.expand = nn.Linear(hidden_dim, chunk_size * hidden_dim)
        self.tokens = _blocks(layers // 2, hidden_dim, ffn_dim)
        self.norm = nn.RMSNorm(hidden_dim, eps=NORM_EPS)

    def forward(
        self, z: Float[Tensor, "*units D"], beside: Float[Tensor, "*some_units W"] | None = None
    ) -> Float[Tensor, "*units K W"]:
        """Write each chunk by itself; its tokens are independent given z, and what stands beside it.

        Args:
            z: Of each chunk.
            beside: Added to what z becomes; dimensions of z in front of its own share it. None: nothing.
        """
        dtype = self.into.weight.dtype  # of the residual stream, under autocast too
        x = self.into(z).to(dtype)
        x = x if beside is None else x + beside.to(dtype)
        x = self.expand(self.chunk(x)).to(dtype)
        return self.norm(self.tokens(x.unflatten(-1, (self.chunk_size, -1))))

    def flops(self) -> int:
        """Of one chunk."""
        per_token = self.chunk_size * linear_flops(self.tokens)
        return linear_flops(self.into, self.chunk, self.expand) + per_token


@final
class ChunkMLP(nn.Module):
    """Encoder, decoder and the embedding they share.

    Args:
        part: Name of the autoencoder, for messages.
        vocab_size: V. The embedding has V + 1 rows; row V is the mask. With a `mask_id` it has V rows.
        latent_dim: D.
        stats: Vectors of width D that the encoder gives: 1 (mean) or 2 (mean, log_std).
        ffn_dim: Inner width of the MLPs; None: 5/2 of `hidden_dim`, the paper's 1280 to 512.
        odd_layer: Of encoder and decoder.
        mask_id: The id that a dropped token is read as; None: V, which no token has.

    Raises:
        ValueError: A size that leaves nothing to build.
    """

    def __init__(
        self,
        part: str,
        vocab_size: int,
        latent_dim: int,
        stats: int,
        *,
        chunk_size: int,
        hidden_dim: int,
        ffn_dim: int | None,
        encoder_layers: int,
        decoder_layers: int,
        odd_layer: OddLayer = "chunk",
        mask_id: int | None = None,
    ) -> None:
        super().__init__()
        ffn_dim = hidden_dim * 5 // 2 if ffn_dim is None else ffn_dim
        require_at_least(part, 1, chunk_size=chunk_size, latent_dim=latent_dim)
        require_at_least(part, 1, hidden_dim=hidden_dim, ffn_dim=ffn_dim)
        require_at_least(part, 0, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        if mask_id is not None and not 0 <= mask_id < vocab_size:
            raise ValueError(
                f"{part}: mask_id must be an id below {vocab_size}, got {mask_id}; null (a row of its own) "
                "would do."
            )
        self.vocab_size, self.mask_id = vocab_size, vocab_size if mask_id is None else mask_id
        self.widest = chunk_size * max(vocab_size, hidden_dim, ffn_dim)  # elements per unit of a tensor
        self.embedding = nn.Embedding(vocab_size + (mask_id is None), hidden_dim)
        inner = (chunk_size, hidden_dim, ffn_dim)
        self.encoder = ChunkEncoder(*inner, encoder_layers, stats * latent_dim, odd_layer=odd_layer)
        self.decoder = ChunkDecoder(*inner, decoder_layers, latent_dim, odd_layer=odd_layer)
        self.apply(init_normal)

    def drop_tokens(self, data: Int[Tensor, "*units K"], probability: float) -> Int[Tensor, "*units K"]:
        """In train mode, replace each id by the mask id with that probability; in eval mode, none."""
        if not self.training or probability == 0:
            return data
        dropped = torch.rand(data.shape, device=data.device) < probability
        return data.masked_fill(dropped, self.mask_id)

    def read(self, data: Int[Tensor, "*units K"]) -> Float[Tensor, "*units out"]:
        """Ids, the mask id allowed -> what the encoder says of each chunk.

        It comes in the dtype of the weights even under autocast: the target of stage 2 is not rounded
        further.
        """
        return self.encoder(self.embedding(data)).to(self.embedding.weight.dtype)

    def logits(
        self, z: Float[Tensor, "*units D"], beside: Float[Tensor, "*some_units W"] | None = None
    ) -> Float[Tensor, "*units K V"]:
        """Latents, and what stands beside them -> logits over the V ids; the mask row takes no part."""
        return F.linear(self.decoder(z, beside), self.embedding.weight[: self.vocab_size])

    def encode_flops(self) -> int:
        """Of one chunk; the embedding is looked up for free."""
        return self.encoder.flops()

    def decode_flops(self) -> int:
        """Of one chunk, with the products of its K vectors with the vocabulary."""
        vocabulary = 2 * self.vocab_size * self.embedding.embedding_dim
        return self.decoder.flops() + self.decoder.chunk_size * vocabulary

    @torch.no_grad()
    def predict(
        self, z: Float[Tensor, "*units D"], beside: Float[Tensor, "*some_units W"] | None = None
    ) -> Int[Tensor, "*units K"]:
        """Latents, and what stands beside them -> most likely ids, in blocks of units: neither the logits of
        all draws nor copies of what they share ever exist at once.
        """
        rows = max(1, BLOCK_ELEMENTS // self.widest)
        blocks = z.reshape(-1, z.shape[-1]).split(rows)
        shared = None if beside is None else beside.reshape(-1, beside.shape[-1])
        assert beside is None or z.shape[z.ndim - beside.ndim : -1] == beside.shape[:-1]
        found = []
        for number, block in enumerate(blocks):
            others = shared
            if shared is not None and len(shared) > 1:
                place = torch.arange(number * rows, number * rows + len(block), device=z.device)
                others = shared[place % len(shared)]
            found.append(self.logits(block, others).argmax(-1))
        return torch.cat(found).view(*z.shape[:-1], self.decoder.chunk_size)


def chunk_cross_entropy(
    logits: Float[Tensor, "*units K V"], data: Int[Tensor, "*units K"]
) -> Float[Tensor, "*units"]:
    """-log p(chunk | z), summed over its K tokens: nats per chunk, never negative."""
    # softmax over a vocabulary needs more digits than half precision has
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    per_token = F.cross_entropy(logits.flatten(0, -2), data.flatten(), reduction="none")
    return per_token.view(data.shape).sum(-1)


def _blocks(count: int, dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(*(SwiGLUBlock(dim, hidden) for _ in range(count)))
