"""Embedder: what the backbone reads of a unit.

CALM reads the tokens, GIVT, MAR and LCM the latent; both come in, and the part takes what it wants.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 3.3.1. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Shaped
from torch import Tensor, nn


class Embedder(nn.Module, ABC):
    """Turns each unit into one vector of the backbone's width.

    The constructor takes first the sizes that the class names in `sizes`: `hidden_dim`, `event`, and what the
    kind of data or its autoencoder knows. It is never asked for zero units, and may be called under bfloat16
    autocast.

    Attributes:
        sizes: On the class: what the constructor gets first, by name, in that order. One that reads latents
            alone leaves out `chunk_size` and `vocab_size`, and serves every kind of data.
        reads: `"data"` (of the unit, such as its ids), `"latents"` or `"both"`; a recipe whose event has no
            latents refuses the last two.
    """

    sizes: ClassVar[tuple[str, ...]] = ("hidden_dim", "event", "chunk_size", "vocab_size")
    reads: ClassVar[Literal["data", "latents", "both"]]

    @abstractmethod
    def forward(self, data: Any, z: Shaped[Tensor, "*units_and_event"]) -> Float[Tensor, "*units H"]:
        """Units -> `[*, H]`.

        Args:
            data: Of each unit, such as ids `[*, K]`; None where only whole rows have data, and for a part
                that reads latents alone.
            z: Values `[*, *E]`: one posterior draw in training, the posterior's mean for a prompt, the z of
                the chosen draw in generation.
        """
