"""LatentTransform: between an autoencoder's values and the values that the model reads and predicts.

Transforms are fitted once, before stage 2, and saved with the weights: a scale is a number of the model,
never of a script. They can be chained; the model undoes them before it decodes.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), 2024, appendix A (the
scale of the latents). https://arxiv.org/abs/2406.11838
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from calmkit.interfaces.posterior import EventSpec, Posterior


class LatentTransform(nn.Module, ABC):
    """An invertible map on the latents of a row.

    The constructor is `(event, layout, *, ...)`; what follows the star is settable in a recipe. It is called
    outside autocast, and never with zero units.

    Attributes:
        keeps_gaussians: On the class: True where a diagonal Gaussian stays one, so that `posterior` maps its
            mean and width. Else the model draws a value and transforms that.
        event: Of the values it gives, set by the constructor.
        layout: Of the units it gives: their grid, such as `(8, 8)`; None for a sequence of any length.
        learned: True where its parameters are trained with the model in stage 2: the loss then reaches them
            through the target and through what the backbone reads.
    """

    sizes: ClassVar[tuple[str, ...]] = ("event", "layout")
    keeps_gaussians: ClassVar[bool]
    event: EventSpec
    layout: tuple[int, ...] | None
    learned: bool = False

    @abstractmethod
    def forward(self, z: Float[Tensor, "*B L D"]) -> tuple[Float[Tensor, "*B l d"], Float[Tensor, "*B l"]]:
        """Values -> transformed values, and the log of |det| of the Jacobian, nats, shared out to the units
        it gives (their sum over a row is what counts).
        """

    @abstractmethod
    def inverse(self, z: Float[Tensor, "*B l d"]) -> Float[Tensor, "*B L D"]:
        """Back again: `inverse(forward(z)[0]) == z`."""

    def fit(self, batches: Iterable[Float[Tensor, "_ _ D"]]) -> None:
        """See values of the training split, `[B, L, D]` of any B, once, before stage 2, and fill the buffers.

        Most need none, and don't ask for a batch. Until then, what needs one refuses with a RuntimeError.
        """

    def posterior(self, posterior: Posterior) -> Posterior:
        """A diagonal Gaussian `[*, L, D]` transformed.

        Raises:
            TypeError: Where Gaussians don't stay Gaussian (`keeps_gaussians`).
        """
        raise TypeError(f"{type(self).__name__} keeps no Gaussian; draw a value and transform that.")
