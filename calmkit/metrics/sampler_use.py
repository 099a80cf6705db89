"""What a sampler did: draws per unit, the level of agreement behind each unit, and how often it fell back."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float, Int
from torch import Tensor


@final
@dataclass
class SamplerUse:
    """A running count over units; rows that drew nothing (their text had ended) are not counted.

    Attributes:
        draws: Draws of all units.
        max_draws: Draws of the unit that took most.
        levels: Units per level of agreement (`Choice.level`).
        fallbacks: Units for which the sampler fell back (level NaN).
    """

    draws: int = 0
    max_draws: int = 0
    levels: Counter[float] = field(default_factory=Counter)
    fallbacks: int = 0

    def add(self, draws: Int[Tensor, " R"], level: Float[Tensor, " R"]) -> None:
        """Count one unit per row that drew something, from a `Choice` or a `Unit`."""
        for cost, agreement in zip(draws.tolist(), level.tolist(), strict=True):
            if cost == 0:
                continue
            self.draws += cost
            self.max_draws = max(self.max_draws, cost)
            if math.isnan(agreement):
                self.fallbacks += 1
            else:
                self.levels[agreement] += 1

    @property
    def units(self) -> int:
        """Units counted."""
        return self.levels.total() + self.fallbacks

    @property
    def draws_per_unit(self) -> float:
        """Mean number of draws, NaN before the first unit."""
        return self.draws / self.units if self.units else math.nan

    @property
    def level(self) -> float | None:
        """Mean level of the units that reached one, None where none did."""
        reached = self.levels.total()
        return sum(level * count for level, count in self.levels.items()) / reached if reached else None

    @property
    def fallback_share(self) -> float:
        """Share of the units for which the sampler fell back, NaN before the first unit."""
        return self.fallbacks / self.units if self.units else math.nan

    @property
    def level_shares(self) -> dict[float, float]:
        """Level -> share of the units, the highest level first. With `fallback_share` they sum to 1."""
        return {level: self.levels[level] / self.units for level in sorted(self.levels, reverse=True)}

    def sentence(self) -> str:
        """The same in words, such as `3 units, 50.0 draws each; level 2: 2 units, level 1: 1 unit`."""
        parts = [f"{_units(self.units)}, {self.draws_per_unit:.1f} draws each"]
        reached = [f"level {level:g}: {_units(self.levels[level])}" for level in sorted(self.levels)[::-1]]
        if reached:
            parts.append(", ".join(reached))
        if self.fallbacks:
            parts.append(f"{_units(self.fallbacks)} fell back: the law asked for was not reached")
        return "; ".join(parts)


def _units(count: int) -> str:
    return f"{count} unit{'' if count == 1 else 's'}"
