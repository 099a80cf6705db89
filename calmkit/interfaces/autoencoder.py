"""Autoencoder: between the data of a unit and its value z.

Stage 1 trains it by its own `loss`; in stage 2 it is frozen and its `encode` gives the targets.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from calmkit.interfaces.past import Past
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
    """Maps the data of a row to posteriors over the values of its units, and back.

    The constructor takes first the sizes that the class names in `sizes`, which the kind of data knows; what
    follows the star is settable in a recipe. A recipe whose data don't know such a size is refused: the part
    serves another kind. It is never asked for zero units. Stage 1 may call it under bfloat16 autocast; in
    stage 2 `encode` is called outside it.

    Attributes:
        sizes: On the class: what the constructor gets first, by name, in that order.
        event: What the value of one unit is; a recipe whose head or embedder can't take it is refused.
        layout: How the L units of a row lie, such as the grid `(8, 8)`; None: a sequence, as long as its row.
    """

    sizes: ClassVar[tuple[str, ...]] = ()
    event: EventSpec
    layout: tuple[int, ...] | None = None

    @abstractmethod
    def encode(self, data: Shaped[Tensor, "*rows_and_data"]) -> Posterior:
        """Rows of data -> posterior over `[B, L, *E]`. Deterministic in eval mode."""

    @abstractmethod
    def decode(self, z: Shaped[Tensor, "*rows_and_event"]) -> Float[Tensor, "*B decoded"]:
        """Values -> what stage 1 compares with data (logits of ids, an image), differentiable."""

    @abstractmethod
    def to_data(self, z: Shaped[Tensor, "*rows_and_event"]) -> Shaped[Tensor, "*rows_and_data"]:
        """Values `[*, L, *E]` -> data: the most likely, what users and measures see."""

    @abstractmethod
    def loss(self, data: Shaped[Tensor, "*rows_and_data"]) -> LossOutput:
        """Loss of stage 1 by unit `[B, L]`, in nats per unit; the same in train and eval mode but for the
        dropout that the mode switches.

        Raises:
            NotTrainable: Where there are no parameters.
        """


class UnitwiseAutoencoder(Autoencoder):
    """One that maps each unit alone, so that leading dimensions are free: `[*, *unit_shape]` <-> `[*, *E]`.

    Only with such a one can a single unit be judged as data: what samplers that vote or reject need.

    Attributes:
        unit_shape: Of the data of one unit, such as `(K,)`.
        discrete: On the class: True where the data of a unit are ids, so that two units can be equal.
    """

    unit_shape: tuple[int, ...]
    discrete: ClassVar[bool] = False


class PastReadingAutoencoder(UnitwiseAutoencoder):
    """A capability: its decoder also reads the data of the units before, p(data | z, past), so that z need
    not say what they say already.

    `encode` reads its own unit alone, and `loss` finds the past of each unit in its row: nothing stands
    before the first one. Whoever decodes says what stands before: held-out data under teacher forcing, and
    in generation what the model itself has written.

    Attributes:
        past: P, units before that are read.
    """

    past: int

    @abstractmethod
    def decode(
        self, z: Shaped[Tensor, "*draws_units_and_event"], past: Past | None = None
    ) -> Float[Tensor, "*B decoded"]:
        """As `Autoencoder.decode`, behind a past.

        Args:
            z: Values; dimensions in front of those of `past`, such as draws, share it.
            past: Of each unit, `[*units, P, *unit_shape]`; None: nothing is known of it.
        """

    @abstractmethod
    def to_data(
        self, z: Shaped[Tensor, "*draws_units_and_event"], past: Past | None = None
    ) -> Shaped[Tensor, "*draws_units_and_data"]:
        """The most likely data, behind a past; see `decode`."""


class TokenAutoencoder(UnitwiseAutoencoder):
    """One of chunks of K ids. The constructor is `(vocab_size, *, chunk_size, ...)`.

    Attributes:
        chunk_size: K, tokens per unit; a sequence length that it does not divide is refused.
    """

    sizes = ("vocab_size",)
    discrete = True
    chunk_size: int

    @property
    def unit_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """`(K,)`."""
        return (self.chunk_size,)

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
        """Loss of stage 1 on chunks `[B, L, K]`, in nats per unit.

        Raises:
            NotTrainable: Where there are no parameters.
        """


class ImageAutoencoder(Autoencoder):
    """One of whole images. The constructor is `(image_shape, *, ...)`, with `image_shape` `(C, H, W)`.

    Images are floats in [-1, 1], `[B, C, H, W]`; the units of `layout` `(h, w)` are in raster order.

    Attributes:
        layout: Always a grid.
    """

    sizes = ("image_shape",)
    layout: tuple[int, int]

    @abstractmethod
    def encode(self, data: Float[Tensor, "B C H W"]) -> Posterior:
        """Images -> posterior over `[B, h * w, D]`. Deterministic in eval mode."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Values -> images, not clipped, differentiable."""

    @abstractmethod
    def to_data(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B C H W"]:
        """Values -> images within [-1, 1]."""
