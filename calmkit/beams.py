"""Beam search over rows of values: of many draws per unit, the rows of highest density go on.

    partial rows -> fan draws of each -> total log density of each -> the best, all different -> step

Taking the best draw of each unit is greedy; several rows are kept side by side because a unit that is likely
by itself may lead nowhere. With a fan that holds every value, and as many beams as there are rows, what comes
out first is the most likely row of all.

Source: Tschannen et al., GIVT: Generative Infinite-Vocabulary Transformers, 2023, and its code, proj/givt of
big_vision (beams and a fan of draws). https://arxiv.org/abs/2312.02116
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from calmkit.interfaces import Context, State

DrawFan = Callable[[Context, int], Tensor]
"""`draw(context, fan)` -> `fan` independent draws `[fan, R, *E]` for the conditions `[R, H]`."""
LogProb = Callable[[Context, Tensor], Tensor]
"""`log_prob(context, values)` -> log density `[fan, R]`, nats, of values `[fan, R, *E]` given conditions
`[R, H]`."""
Advance = Callable[[State, Tensor, Tensor], tuple[Context, State]]
"""`advance(state, values, rows)` -> conditions `[R, H]` and state of the next unit: row r continues row
`rows[r]` of the state by `values[r]`, `[R, *E]`."""


@final
@dataclass(frozen=True)
class Beams:
    """Whole rows, the best of each first.

    Attributes:
        values: `[B, W, L, *E]`.
        log_prob: `[B, W]`, total log density of each, nats; -inf where there were fewer different rows.
    """

    values: Shaped[Tensor, "B W L *event"]
    log_prob: Float[Tensor, "B W"]


def beam_rows(
    context: Context,
    state: State,
    *,
    num_units: int,
    beams: int,
    fan: int,
    draw: DrawFan,
    log_prob: LogProb,
    advance: Advance,
) -> Beams:
    """Search each of B rows for values of `num_units` units.

    Args:
        context: The conditions of the first unit, `[B, H]`.
        state: What goes with them.
        num_units: L.
        beams: Most rows kept side by side for each, W; fewer where so many different ones were not drawn.
        fan: Draws per row kept and unit.
        draw: See `DrawFan`.
        log_prob: See `LogProb`. The score of a row is its sum: a temperature of `draw` does not enter it.
        advance: See `Advance`. It is called for all units but the last.

    Raises:
        ValueError: For less than one unit, beam or draw.
    """
    for name, value in (("num_units", num_units), ("beams", beams), ("fan", fan)):
        if value < 1:
            raise ValueError(f"beam_rows: {name} must be at least 1, got {value}.")
    rows = len(context.h)
    wide = torch.promote_types(context.h.dtype, torch.float32)
    total, kept = context.h.new_zeros(rows, 1, dtype=wide), None
    for unit in range(num_units):
        values = draw(context, fan)  # [fan, B * W, *E]
        score = log_prob(context, values).to(total).masked_fill(is_repeated(values), -torch.inf)
        candidates = (total.flatten() + score).unflatten(1, (rows, -1))  # [fan, B, W]
        total, parent, chosen = _best(candidates, beams)
        parent, chosen = parent.flatten(), chosen.flatten()  # [B * W] of the new W
        taken = values[chosen, parent].unsqueeze(1)  # [B * W, 1, *E]
        kept = taken if kept is None else torch.cat([kept[parent], taken], 1)
        if unit < num_units - 1:
            context, state = advance(state, taken[:, 0], parent)
    assert kept is not None
    return Beams(kept.unflatten(0, (rows, -1)), total)


def _best(candidates: Tensor, beams: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of candidates `[fan, B, W]` the best of each of B: scores `[B, W']`, falling, the row `b * W + w` that
    each continues, and which of its draws it takes.
    """
    fan, rows, width = candidates.shape
    every = candidates.transpose(0, 1).flatten(1)  # [B, fan * W], draw by draw
    total, index = every.topk(min(beams, fan * width), dim=1)
    first = torch.arange(rows, device=index.device).unsqueeze(1) * width
    return total, first + index % width, index // width


def is_repeated(values: Shaped[Tensor, "fan R *event"]) -> Bool[Tensor, "fan R"]:
    """True where a draw of a row equals one before it: taken twice, it would fill two beams with one row."""
    flat = values.flatten(2) if values.dim() > 2 else values.unsqueeze(-1)  # [fan, R, E]
    seen = [(flat[:i] == flat[i]).all(-1).any(0) for i in range(len(flat))]
    return torch.stack(seen)
