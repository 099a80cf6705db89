"""LatentMeans: means over units beside numbers of their latents as a whole, and one as a share of another.

A share's interval takes what stands below the line as known: it rests on all units at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.interfaces import HeldOut
from calmkit.metrics.unit_means import GroupSums, means_of, unit_lines

Whole = Callable[[Tensor], Mapping[str, Tensor]]
"""`[N, D]` -> numbers of these latents together, by key."""


@final
class LatentMeans(torchmetrics.Metric, GroupSums):
    """As `UnitMeans`, with a draw of each unit's posterior, N x D numbers, kept beside the sums.

    Args:
        keys: Of means over units.
        whole: Numbers of all latents; asked once, in double precision on the CPU.
        whole_keys: Those that it gives.
        shares: Key -> two keys, of which it is the first over the second; the second is one of `whole_keys`.

    Attributes:
        keys: All of them.
    """

    full_state_update = False
    is_differentiable = False
    lines: list[Tensor]
    latents: list[Tensor]
    width: Tensor

    def __init__(
        self,
        keys: Sequence[str],
        whole: Whole,
        whole_keys: Sequence[str],
        shares: Mapping[str, tuple[str, str]],
    ) -> None:
        super().__init__()
        self.means, self.whole, self.whole_keys, self.shares = tuple(keys), whole, tuple(whole_keys), shares
        self.keys = (*self.means, *self.whole_keys, *shares)
        self.add_state("lines", default=[], dist_reduce_fx="cat")  # flat, as in UnitMeans
        self.add_state("latents", default=[], dist_reduce_fx="cat")
        self.add_state("width", default=torch.tensor(0), dist_reduce_fx="max")
        self.rows_before = 0

    def update(self, held: HeldOut, y: Float[Tensor, "N D"], *values: Float[Tensor, " N"]) -> None:
        """Add units.

        Args:
            held: Whose units they are.
            y: A draw of the posterior of each.
            values: One per unit, a tensor for each of the keys of means.
        """
        cast = [value.to(self.dtype) for value in values]
        self.lines.append(unit_lines(held, cast, self.means, self.rows_before).flatten())
        self.latents.append(y.to(self.dtype).flatten())
        self.width = torch.full_like(self.width, y.shape[1])
        self.rows_before += int(held.rows.max()) + 1

    def reset(self) -> None:
        """Forget all units; `per_group` of the last `compute` stays."""
        super().reset()
        self.rows_before = 0

    def compute(self) -> dict[str, Tensor]:
        """As `UnitMeans.compute`; a number of the latents as a whole has no interval.

        Raises:
            ValueError: Before two units came in.
        """
        if len(self.lines) == 0:
            raise ValueError("it saw no unit: the evaluation data has none that is predicted.")
        lines = dim_zero_cat(self.lines).cpu().double().view(-1, 3 + len(self.means) + 1)
        latents = dim_zero_cat(self.latents).cpu().double().view(-1, int(self.width))
        whole = self.whole(latents)
        units = lines[:, -1]
        sums = {key: lines[:, 3 + place] for place, key in enumerate(self.means)}
        sums |= {key: whole[key] * units for key in self.whole_keys}
        sums |= {key: sums[above] / whole[below] for key, (above, below) in self.shares.items()}
        columns = torch.stack([*(sums[key] for key in self.keys), units], 1)
        found, self.per_group = means_of(torch.cat([lines[:, :3], columns], 1), self.keys)
        unknown = {f"{key}_{end}" for key in self.whole_keys for end in ("se", "low", "high")}
        return {key: value for key, value in found.items() if key not in unknown}
