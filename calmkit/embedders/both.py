"""Both: the backbone reads the tokens and the latent of a unit, their two embeddings added.

More is told, and less is learned: in the paper's Table 5 the sum (4.40 BrierLM) stays below the tokens alone
(4.70) and far above the latent alone (3.25).

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Table 5. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float, Int
from torch import Tensor

from calmkit.embedders.latents import LatentsEmbedder
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Embedder, EventSpec, StatesStepFlops, StatesTrainingFlops


@final
class BothEmbedder(Embedder, StatesStepFlops, StatesTrainingFlops):
    """x = tokens(ids) + latents(z): the sum of the embedders of those names.

    Args:
        hidden_dim: H.
        event: The latent; one dimension, continuous.
        chunk_size: K.
        vocab_size: V.
        token_dim: d, width of one token's embedding; None: H.

    Raises:
        ValueError: As `tokens` and `latents` do.

    Source:
        Shao et al., 2025, Table 5.
    """

    reads = "both"

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        chunk_size: int,
        vocab_size: int,
        *,
        token_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.tokens = TokensEmbedder(hidden_dim, event, chunk_size, vocab_size, token_dim=token_dim)
        self.latents = LatentsEmbedder(hidden_dim, event)

    def forward(
        self, data: Int[Tensor, "*units K"], z: Float[Tensor, "*units D"]
    ) -> Float[Tensor, "*units H"]:
        """Ids and latents -> one vector per unit."""
        return self.tokens(data, z) + self.latents(data, z)

    def forward_flops(self, units: int) -> int:
        """The two together."""
        return self.tokens.forward_flops(units) + self.latents.forward_flops(units)

    def training_flops(self, units: int) -> int:
        """The tokens' forward and backward passes are three forward passes; the latents take no gradient."""
        return 3 * self.tokens.forward_flops(units) + self.latents.training_flops(units)

    def step_flops(self, past: int) -> int:
        """One unit; those before it are not read."""
        return self.tokens.step_flops(past) + self.latents.step_flops(past)


@hookimpl
def calmkit_embedders() -> dict[str, type[Embedder]]:
    """Register this part."""
    return {"both": BothEmbedder}
