"""UnitMeans: means over held-out units with their uncertainty, what most measures come down to.

Units of one group, such as a document, are not independent: standard errors and intervals treat whole
groups (rows, where groups are not known or fewer than ten) as one, as those of BrierLM do.

Source: ratio estimator, Cochran, Sampling Techniques, 1977, section 6.3; percentile intervals, Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3. https://doi.org/10.1201/9780429246593
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.interfaces import HeldOut
from calmkit.metrics.blocks import FEWEST_GROUPS, UNKNOWN, grouped, ratio_standard_error, resampled_means


class GroupSums:
    """An accumulator that keeps what each group gave, so that differences can be taken in pairs.

    Attributes:
        keys: Of its numbers, in the order of the columns.
        per_group: Set by `compute`: `[groups, 2 + C]`, a group's number, its C sums and its units;
            None where groups are not known.
    """

    keys: tuple[str, ...]
    per_group: Tensor | None = None


@final
class UnitMeans(torchmetrics.Metric, GroupSums):
    """One mean per key over units, over any number of updates and processes.

    Args:
        keys: Of `MeasureInfo.numbers`; none for a measure with a single number.

    Attributes:
        keys: As given, `("",)` for none.
    """

    full_state_update = False
    is_differentiable = False
    lines: list[Tensor]

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self.keys = keys or ("",)
        # Flat, because torchmetrics joins a process that saw nothing as an empty vector.
        self.add_state("lines", default=[], dist_reduce_fx="cat")
        self.rows_before = 0

    def update(self, held: HeldOut, *values: Float[Tensor, " N"]) -> None:
        """Add units.

        Args:
            held: Whose units they are.
            values: One per unit, a tensor for each key, in the order of the keys.

        Raises:
            ValueError: For another number of tensors than there are keys, or of values than there are units.
        """
        cast = [value.to(self.dtype) for value in values]
        self.lines.append(unit_lines(held, cast, self.keys, self.rows_before).flatten())
        self.rows_before += int(held.rows.max()) + 1

    def reset(self) -> None:
        """Forget all units; `per_group` of the last `compute` stays."""
        super().reset()
        self.rows_before = 0

    def compute(self) -> dict[str, Tensor]:
        """Scalars in double precision.

        Returns:
            For each key the mean; `<key>_se`, its standard error (NaN with a single block), `<key>_low` and
            `<key>_high`, the 95 % interval over groups or rows (NaN alike); and `units`, over which the
            mean was taken, `blocks`, over which the interval was.

        Raises:
            ValueError: Before any unit came in.
        """
        if len(self.lines) == 0:  # a list of one process, or the vector of several
            raise ValueError("UnitMeans saw no unit: the evaluation data has none that is predicted.")
        lines = dim_zero_cat(self.lines).cpu().double().view(-1, 3 + len(self.keys) + 1)
        found, self.per_group = means_of(lines, self.keys)
        return found


def unit_lines(
    held: HeldOut, values: Sequence[Float[Tensor, " N"]], keys: Sequence[str], rows_before: int
) -> Float[Tensor, "lines columns"]:
    """Sums over the units of each row and group: process, row, group, a sum for each key, units.

    Args:
        held: Whose units they are.
        values: One per unit, a tensor for each key.
        keys: Of the values.
        rows_before: Rows of this process that came in before.

    Raises:
        ValueError: For another number of tensors than there are keys, or of values than there are units.
    """
    shapes = [tuple(value.shape) for value in values]
    if shapes != [(len(held.rows),)] * len(keys):
        wanted = f"{len(keys)} tensors of one value for each of the {len(held.rows)} units"
        raise ValueError(f"UnitMeans takes {wanted}, got tensors of shape {shapes}.")
    groups = torch.full_like(held.rows, UNKNOWN) if held.groups is None else held.groups
    wide = values[0].dtype
    columns = torch.stack([v.to(wide) for v in (*values, torch.ones_like(held.rows))], 1)  # [N, C + 1]
    pairs, line = torch.stack([held.rows, groups], 1).unique(dim=0, return_inverse=True)
    sums = columns.new_zeros(len(pairs), columns.shape[1]).index_add_(0, line, columns)
    row = pairs[:, :1] + rows_before
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = torch.full_like(row, torch.distributed.get_rank() if together else 0)
    return torch.cat([rank, row, pairs[:, 1:], sums], 1)


def means_of(
    lines: Float[Tensor, "lines columns"], keys: Sequence[str]
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Means over units and their uncertainty, from what `unit_lines` gave; and the sums by group, None where
    groups are not known. See `UnitMeans.compute`.
    """
    by_row = grouped(lines[:, :2], lines[:, 3:])
    by_group = grouped(lines[:, 2:3], lines[:, 3:])
    known = bool((lines[:, 2] != UNKNOWN).all())
    per_group = torch.cat([lines[:, 2].unique().unsqueeze(1), by_group], 1) if known else None
    table = by_group if known and len(by_group) >= FEWEST_GROUPS else by_row
    sums, counts = table[:, :-1], table[:, -1]
    means, errors = sums.sum(0) / counts.sum(), ratio_standard_error(sums, counts)
    ends = torch.full((2, len(keys)), float("nan"), dtype=sums.dtype)
    if len(table) > 1:
        drawn = resampled_means(sums, counts)
        ends = drawn.quantile(drawn.new_tensor([0.025, 0.975]), dim=0)
    found: dict[str, Tensor] = {}
    for place, key in enumerate(keys):
        found |= {key: means[place], _beside(key, "se"): errors[place]}
        found |= {_beside(key, end): ends[i, place] for i, end in enumerate(("low", "high"))}
    return found | {"units": counts.sum(), "blocks": counts.new_tensor(float(len(table)))}, per_group


def _beside(key: str, end: str) -> str:
    """The key of what belongs to another key: `spread_low`, or `low` of a measure's only number."""
    return f"{key}_{end}" if key else end
