"""Explosion: a loss that is a number still, and far above all that came before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import final

WINDOW = 100
FEWEST = 20
FLAT = 1e-3
"""Share of the highest loss that counts as a range where losses hardly differ."""


@final
class LossWatch:
    """Knows the last losses, and says which one is out of all proportion.

    A loss explodes that lies above the highest of the last 100 by more than `factor` times their range, which
    is highest less lowest. Range and not deviation: one hard batch among the last ones widens it, and losses
    that fall fast, as behind the first steps, make it wide. Of fewer than 20 losses nothing is said.

    Args:
        factor: None: nothing ever explodes.
    """

    def __init__(self, factor: float | None) -> None:
        self.factor = factor
        self._losses: deque[float] = deque(maxlen=WINDOW)

    @property
    def losses(self) -> list[float]:
        """The last ones, the oldest first."""
        return list(self._losses)

    @losses.setter
    def losses(self, values: Sequence[float]) -> None:
        self._losses = deque(values, maxlen=WINDOW)

    def limit(self) -> float:
        """What the next loss may be at most."""
        if self.factor is None or len(self._losses) < FEWEST:
            return float("inf")
        highest, lowest = max(self._losses), min(self._losses)
        return highest + self.factor * max(highest - lowest, FLAT * abs(highest))

    def add(self, loss: float) -> None:
        """Note a finite loss."""
        self._losses.append(loss)
