"""StatesFlops: a part that states its own cost; the cost of every other part is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod


class StatesFlops(ABC):
    """A capability beside the part's own contract. FLOPs are 2 per multiply-add of a matrix product; all
    else is free.

    Where a part does not state its cost it is counted with `torch.utils.flop_counter` on a small real batch.
    """

    @abstractmethod
    def forward_flops(self, units: int) -> int:
        """FLOPs of one training forward pass over one row of `units` units. A backward pass counts twice
        that.
        """
