"""Autoencoder: between the data of a unit and its value z.

Stage 1 trains it by its own `loss`; in stage 2 it is frozen and its `encode` gives the targets.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from calmkit.interfaces.posterior import EventSpec, Posterior


class NotTrainable(Exception):
    """Raised by `Autoencoder.loss` where there is nothing to learn: such a model has no stage 1."""


@final
@dataclass(frozen=True)
class LossOutput:
    """A loss before it is averaged, and what it is made of.

    Attributes:
        per_unit: One value per unit, `[B, L]`.
        terms: Named means, scalars, for logs only: they carry no gradient.
    """

    per_unit: Float[Tensor, "B L"]
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class Autoencoder(nn.Module, ABC):
    """Maps the data of a unit to a posterior over its value, and back.

    The constructor is `(vocab_size, *, chunk_size, ...)`; what follows the star is settable in a recipe. It
    is never asked for zero units. Stage 1 may call it under bfloat16 autocast; in stage 2 `encode` is called
    outside it.

    Attributes:
        event: What the value of one unit is; a recipe whose head or embedder can't take it is refused.
        chunk_size: K, tokens per unit; a sequence length that it does not divide is refused.
    """

    event: EventSpec
    chunk_size: int

    @abstractmethod
    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """Chunks of ids `[*, K]` -> posterior over `[*, *E]`. Deterministic in eval mode."""

    @abstractmethod
    def decode(self, z: Shaped[Tensor, "*units_and_event"]) -> Float[Tensor, "*units K V"]:
        """Values `[*, *E]` -> logits `[*, K, V]`, differentiable where z is continuous."""

    @abstractmethod
    def to_data(self, z: Shaped[Tensor, "*units_and_event"]) -> Int[Tensor, "*units K"]:
        """Values `[*, *E]` -> ids `[*, K]`: the most likely ones, what users and metrics see."""

    @abstractmethod
    def loss(self, data: Int[Tensor, "B L K"]) -> LossOutput:
        """Loss of stage 1 on chunks `[B, L, K]`, in nats per unit; the same in train and eval mode
        but for the dropout that the mode switches.

        Raises:
            NotTrainable: Where there are no parameters.
        """
