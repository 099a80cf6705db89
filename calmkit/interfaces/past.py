"""Past: the data of the units before a unit, for an autoencoder whose decoder reads them too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor


@final
@dataclass(frozen=True)
class Past:
    """The P units before each of some units, the nearest last.

    Attributes:
        data: `[*, P, *data]`, as the autoencoder's units are, such as ids `[*, P, K]`.
        known: `[*, P]`, false where no real unit stands: what `data` holds there is nobody's and not read.
    """

    data: Shaped[Tensor, "*units_past_and_data"]
    known: Bool[Tensor, "*units P"]

    @staticmethod
    def of_rows(data: Shaped[Tensor, "B L *data"], valid: Bool[Tensor, "B L"], num: int) -> Past:
        """The past of every unit of rows, and of the one that would follow: `[B, L + 1, num, *data]`.

        Args:
            data: Units one after the other.
            valid: Which of them are real.
            num: P.
        """
        nothing = data.new_zeros(len(data), num, *data.shape[2:])
        every = torch.cat([nothing, data], 1)
        known = torch.cat([valid.new_zeros(len(data), num), valid], 1)
        first = torch.arange(data.shape[1] + 1, device=data.device).unsqueeze(1)
        window = first + torch.arange(num, device=data.device)  # [L + 1, P]
        return Past(every[:, window], known[:, window])

    def then(self, data: Shaped[Tensor, "*units_and_data"]) -> Past:
        """The past one unit later: `data` is the nearest, and the farthest is forgotten."""
        axis = self.known.ndim - 1
        kept = self.data.narrow(axis, 1, self.known.shape[-1] - 1)
        known = torch.cat([self.known[..., 1:], torch.ones_like(self.known[..., :1])], -1)
        return Past(torch.cat([kept, data.unsqueeze(axis)], axis), known)

    def __getitem__(self, index: Tensor | slice | int | tuple[slice | int, ...]) -> Past:
        """Pick along the leading dimensions."""
        return Past(self.data[index], self.known[index])
