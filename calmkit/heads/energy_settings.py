"""What the loss of the energy head may be, at the end of its training and on the way there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from calmkit.heads.energy_score import Distance

EXPONENT_UNTIL = 0.5  # of the training: as long again for the exponent that the head is measured by


@final
@dataclass(frozen=True)
class EnergySchedule:
    """Exponent and weight of the likelihood, each a function of the fraction of the training that is done.

    Attributes:
        exponent: At the end.
        first_exponent: At the beginning; it moves linearly over the first half. None: it does not move.
        likelihood_until: Fraction over which the weight of the likelihood falls linearly from 1 to 0.

    Raises:
        ValueError: For a setting out of its range.
    """

    exponent: float
    first_exponent: float | None = None
    likelihood_until: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("exponent", self.exponent), ("first_exponent", self.first_exponent)):
            if value is not None and not 0 < value < 2:
                raise ValueError(f"energy: {name} must lie in (0, 2), got {value}; 1.0 would do.")
        if not 0 <= self.likelihood_until <= 1:
            raise ValueError(
                f"energy: likelihood_until must lie in [0, 1], got {self.likelihood_until}; 0.2 would do."
            )

    def exponent_at(self, fraction: float) -> float:
        """The exponent of the score."""
        done = fraction / EXPONENT_UNTIL
        if self.first_exponent is None or done >= 1:
            return self.exponent
        return self.first_exponent + (self.exponent - self.first_exponent) * done

    def likelihood_at(self, fraction: float) -> float:
        """Weight of the negative log-likelihood."""
        return 0.0 if fraction >= self.likelihood_until else 1 - fraction / self.likelihood_until


def require_score(schedule: EnergySchedule, repulsion: float, offset: float, marginal: float) -> None:
    """Refuse what is no score, and a score that others than the truth may be best by.

    Raises:
        ValueError: Naming setting and value.
    """
    if not 0 <= repulsion <= 1:  # above 1 a few draws far out make the loss as low as one likes
        raise ValueError(f"energy: repulsion must lie in [0, 1], got {repulsion}; 1.0 would do.")
    if not 0 <= marginal <= 1:
        raise ValueError(f"energy: marginal must lie in [0, 1], got {marginal}; 0.5 would do.")
    for exponent in (schedule.exponent, schedule.first_exponent):
        if exponent is not None:
            Distance.checked(exponent, offset)
