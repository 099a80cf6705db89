"""Token chunks: the identity. A unit's value is its ids, so discrete systems are the same model as others.

With the head `local_ar` it is MegaByte; at K = 1 it is the softmax baseline.

Source: Yu et al., MegaByte: Predicting Million-byte Sequences with Multiscale Transformers, 2023, section 2.
https://arxiv.org/abs/2305.07185
"""

from __future__ import annotations

from typing import NoReturn, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Autoencoder,
    EventSpec,
    NotTrainable,
    Posterior,
    StatesCodingFlops,
    TokenAutoencoder,
)
from calmkit.nn.settings import require_at_least

# Logit of every id but the given one: e^-10000 is 0 in every dtype, yet the number is finite even in float16,
# so that no inf - inf or 0 * inf arises downstream.
NEVER = -1e4


@final
class TokenChunks(TokenAutoencoder, StatesCodingFlops):
    """Ids stay ids; there is nothing to learn.

    Args:
        vocab_size: V.
        chunk_size: K.

    Raises:
        ValueError: A chunk without tokens.

    Source:
        Yu et al., 2023, section 2 (patches of ids).
    """

    def __init__(self, vocab_size: int, *, chunk_size: int = 4) -> None:
        super().__init__()
        require_at_least("token_chunks", 1, chunk_size=chunk_size)
        self.event = EventSpec((chunk_size,), vocab_size)
        self.chunk_size = chunk_size
        self.vocab_size = vocab_size

    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """The ids themselves, as a point."""
        return Posterior(data)

    def decode(self, z: Int[Tensor, "*units K"]) -> Float[Tensor, "*units K V"]:
        """Log of the one-hot distribution: 0 at the id, -10000 elsewhere, in torch's default dtype."""
        return (1 - F.one_hot(z.long(), self.vocab_size).to(torch.get_default_dtype())) * NEVER

    def to_data(self, z: Int[Tensor, "*units K"]) -> Int[Tensor, "*units K"]:
        """The ids themselves."""
        return z

    def encode_flops(self) -> int:
        """Nothing is multiplied."""
        return 0

    def decode_flops(self) -> int:
        """Nothing is multiplied."""
        return 0

    def loss(self, data: Int[Tensor, "B L K"]) -> NoReturn:
        """Refuse: an identity has no stage 1.

        Raises:
            NotTrainable: Always.
        """
        del data
        raise NotTrainable("token_chunks has no parameters: leave stage 'autoencoder' out of the recipe.")


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Register this part."""
    return {"token_chunks": TokenChunks}
