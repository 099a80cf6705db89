"""Prefix: given vectors in front of a row, such as what a frozen encoder made of a description.

Source: Fan et al., Fluid, 2024 (rows conditioned on the vectors of a frozen encoder), which attends to them
from beside the sequence; here they stand in it. https://arxiv.org/abs/2410.13863
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Conditioner
from calmkit.nn.attention import INIT_STD, initialise
from calmkit.nn.settings import require_probability


@final
class PrefixConditioner(Conditioner):
    """P vectors of a row through one Linear layer, each at a learned position; P learned ones for none.

    Args:
        hidden_dim: H.
        prefix_shape: (P, C): vectors per row and their width.
        drop: Probability with which training drops the vectors of a row.
    """

    sizes = ("hidden_dim", "prefix_shape")
    reads = ("prefix",)

    def __init__(self, hidden_dim: int, prefix_shape: tuple[int, ...], *, drop: float = 0.1) -> None:
        super().__init__()
        require_probability("prefix", drop=drop)
        if len(prefix_shape) != 2 or min(prefix_shape) < 1:
            raise ValueError(f"prefix: prefix_shape is {prefix_shape}; vectors and width would do: (4, 16).")
        self.prefix_shape, self.drop, self.length = prefix_shape, drop, prefix_shape[0]
        self.project = nn.Linear(prefix_shape[1], hidden_dim)
        self.position = nn.Parameter(torch.randn(self.length, hidden_dim) * INIT_STD)
        self.null = nn.Parameter(torch.randn(self.length, hidden_dim) * INIT_STD)
        initialise(self)

    def forward(
        self, condition: Mapping[str, Shaped[Tensor, "B *value"]], drop: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B P H"]:
        """Vectors `[B, P, C]` -> prefix; what those of a dropped row are, if any, does not matter.

        Raises:
            ValueError: For vectors of another shape.
        """
        wanted = (*drop.shape, *self.prefix_shape)
        vectors = condition.get("prefix", self.null.new_zeros(wanted))
        if vectors.shape != wanted:
            raise ValueError(f"prefix: vectors have shape {tuple(vectors.shape)}; {wanted} would do.")
        dropped = (drop | ("prefix" not in condition))[:, None, None]
        # Zero before the weights, or a NaN of a dropped row would reach their gradient.
        vectors = torch.where(dropped, 0.0, vectors.to(self.null.dtype))
        return torch.where(dropped, self.null, self.project(vectors) + self.position)


@hookimpl
def calmkit_conditioners() -> dict[str, type[Conditioner]]:
    """Register this part."""
    return {"prefix": PrefixConditioner}
