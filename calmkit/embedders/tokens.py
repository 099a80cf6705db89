"""Tokens: the backbone reads the ids that were decoded, not the latent, as CALM does.

Feeding back the discrete tokens beats feeding back the latent by 4.70 to 3.25 BrierLM in the paper's Table 5.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 3.3.1 and Table 5.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Embedder, EventSpec, StatesStepFlops
from calmkit.nn.chunk_mlp import init_normal
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.swiglu import NORM_EPS


@final
class TokensEmbedder(Embedder, StatesStepFlops):
    """K token embeddings side by side, compressed to one vector by two Linear layers and a LayerNorm.

    x = LayerNorm(Linear_2H->H(SiLU(Linear_Kd->2H(cat_k embed(token_k))))). A chunk of one token needs no
    compression: at K = 1 it is the embedding alone, as in any language model, unless `always_compress`.

    Args:
        hidden_dim: H.
        event: Not read; ids are.
        chunk_size: K.
        vocab_size: V.
        token_dim: d, width of one token's embedding; None: H.
        always_compress: At K = 1 too, as in the official code.

    Raises:
        ValueError: A width that leaves nothing, or one other than H where nothing follows the embedding.

    Source:
        Shao et al., 2025, section 3.3.1; widths from the official code, modeling_energy.py.
    """

    reads = "data"

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        chunk_size: int,
        vocab_size: int,
        *,
        token_dim: int | None = None,
        always_compress: bool = False,
    ) -> None:
        del event
        super().__init__()
        token_dim = hidden_dim if token_dim is None else token_dim
        if token_dim < 1:
            raise ValueError(
                f"tokens: token_dim must be at least 1, got {token_dim}; null (hidden_dim) would do."
            )
        compress = chunk_size > 1 or always_compress
        if not compress and token_dim != hidden_dim:
            raise ValueError(
                f"tokens: at chunk_size 1 token_dim must be hidden_dim={hidden_dim}, as no layer follows the "
                f"embedding, got {token_dim}; null would do."
            )
        self.embedding = nn.Embedding(vocab_size, token_dim)
        self.compress: nn.Module = nn.Identity()
        if compress:
            self.compress = nn.Sequential(
                nn.Linear(chunk_size * token_dim, 2 * hidden_dim),
                nn.SiLU(),
                nn.Linear(2 * hidden_dim, hidden_dim),
                nn.LayerNorm(hidden_dim, eps=NORM_EPS),
            )
        self.apply(init_normal)

    def forward(
        self, data: Int[Tensor, "*units K"], z: Shaped[Tensor, "*units_and_event"]
    ) -> Float[Tensor, "*units H"]:
        """Ids -> one vector per unit; z is not read."""
        del z
        return self.compress(self.embedding(data).flatten(-2))  # flatten: [*units, K*d]

    def forward_flops(self, units: int) -> int:
        """The compression, where there is one; an embedding is looked up for free."""
        return units * linear_flops(self)

    def step_flops(self, past: int) -> int:
        """One unit; those before it are not read."""
        del past
        return self.forward_flops(1)


@hookimpl
def calmkit_embedders() -> dict[str, type[Embedder]]:
    """Register this part."""
    return {"tokens": TokensEmbedder}
