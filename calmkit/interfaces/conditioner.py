"""Conditioner: what stands before the first unit of a row, such as its label.

Source: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, section 3.1 (dropping the condition in
training). https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn


class Conditioner(nn.Module, ABC):
    """Turns the condition of a row into a prefix that every unit may read.

    The constructor takes first the sizes that the class names in `sizes`; what follows the star is settable
    in a recipe.

    Attributes:
        sizes: On the class: what the constructor gets first, `hidden_dim` and what the kind of data knows,
            such as `num_labels`.
        reads: On the class: names of `Batch.condition` that it reads; a recipe whose data lack one is
            refused.
        length: P, units of the prefix, 1 or more.
        drop: Probability with which training replaces the condition of a row by the null condition; 0 means
            that guidance has nothing to guide away from, and is refused.
    """

    sizes: ClassVar[tuple[str, ...]] = ("hidden_dim",)
    reads: ClassVar[tuple[str, ...]]
    length: int
    drop: float = 0.0

    @abstractmethod
    def forward(
        self, condition: Mapping[str, Shaped[Tensor, "B *value"]], drop: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B P H"]:
        """The prefix of each row; rows where `drop` is true get the null condition, whatever theirs is.

        Args:
            condition: What `reads` names, of each row. Where every row is dropped it may be empty: guidance
                and draws that are asked of nothing have no condition to give.
            drop: As many rows as there are.
        """
