"""Label: the class of a row as a learned vector in front of it.

Source: Li et al., MAR, 2024, official code LTH14/mar@fe470ac, models/mar.py (class embedding, dropped to a
learned one at rate 0.1). https://arxiv.org/abs/2406.11838
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
from calmkit.nn.settings import require_at_least, require_probability


@final
class LabelConditioner(Conditioner):
    """One vector per label, and one more for no label, set `length` times before the row.

    Args:
        hidden_dim: H.
        num_labels: Labels are 0 to num_labels - 1.
        drop: Probability with which training drops the label of a row.
        length: P; a learned position tells the copies apart.
    """

    sizes = ("hidden_dim", "num_labels")
    reads = ("label",)

    def __init__(self, hidden_dim: int, num_labels: int, *, drop: float = 0.1, length: int = 1) -> None:
        super().__init__()
        require_at_least("label", 1, num_labels=num_labels, length=length)
        require_probability("label", drop=drop)
        self.num_labels, self.drop, self.length = num_labels, drop, length
        self.embedding = nn.Embedding(num_labels + 1, hidden_dim)  # the last is the null condition
        self.position = nn.Parameter(torch.randn(length, hidden_dim) * INIT_STD)
        initialise(self)

    def forward(
        self, condition: Mapping[str, Shaped[Tensor, "B *value"]], drop: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B P H"]:
        """Labels `[B]` -> prefix; what the label of a dropped row is, if any, does not matter.

        Raises:
            ValueError: For labels that are no whole numbers `[B]`, or out of range.
        """
        label = condition.get("label", torch.zeros_like(drop, dtype=torch.long))
        drop = drop | ("label" not in condition)
        if label.is_floating_point() or label.shape != drop.shape:
            raise ValueError(
                f"label: labels are {label.dtype} of shape {tuple(label.shape)}; one whole number per row, "
                f"of shape {tuple(drop.shape)}, would do."
            )
        unknown = ~drop & ((label < 0) | (label >= self.num_labels))
        if bool(unknown.any()):
            raise ValueError(
                f"label: there is no label {int(label[unknown][0])}; 0 to {self.num_labels - 1} would do."
            )
        vector = self.embedding(torch.where(drop, self.num_labels, label.long()))
        return vector.unsqueeze(1) + self.position  # [B, 1, H] + [P, H]


@hookimpl
def calmkit_conditioners() -> dict[str, type[Conditioner]]:
    """Register this part."""
    return {"label": LabelConditioner}
