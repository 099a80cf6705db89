"""Embedder: what the backbone reads of a unit.

CALM reads the tokens, GIVT, MAR and LCM the latent; both come in, and the part takes what it wants.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 3.3.1. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn


class Embedder(nn.Module, ABC):
    """Turns each unit into one vector of the backbone's width.

    The constructor is `(hidden_dim, event, chunk_size, vocab_size, *, ...)`. It is never asked for zero
    units, and may be called under bfloat16 autocast.

    Attributes:
        reads: `"data"` (the ids), `"latents"` or `"both"`; a recipe whose event has no latents refuses the
            last two.
    """

    reads: ClassVar[Literal["data", "latents", "both"]]

    @abstractmethod
    def forward(
        self, data: Int[Tensor, "*units K"], z: Shaped[Tensor, "*units_and_event"]
    ) -> Float[Tensor, "*units H"]:
        """Units -> `[*, H]`.

        Args:
            data: Ids `[*, K]`.
            z: Values `[*, *E]`: one posterior draw in training, the posterior's mean for a prompt, the z of
                the chosen draw in generation.
        """
