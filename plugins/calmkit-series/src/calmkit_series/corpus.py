"""What corpora of series promise, and one whose law is known."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from calmkit.interfaces import Corpus, Split


@final
@dataclass(frozen=True)
class Stretch:
    """Values of one series that follow each other without a gap.

    Attributes:
        series: The number of the series in its split: stretches of one series are not independent.
        values: In the order of time.
    """

    series: int
    values: Float[np.ndarray, " n"]


class SeriesCorpus(Corpus):
    """A source of series, split into train and valid by time or by series."""

    data_kind: ClassVar[str] = "series"

    @abstractmethod
    def stretches(self, split: Split) -> list[Stretch]:
        """All of a split, in a fixed order.

        Raises:
            DataError: A file is missing or broken, naming file, place and cure; or a split is empty.
        """

    def notes(self) -> list[str]:
        """What the reading left out, a line each."""
        return []


class KnownLaw(SeriesCorpus):
    """A capability: series of a stationary Gaussian law of mean 0, so that the best possible scores can stand
    beside a model's.
    """

    @abstractmethod
    def covariance(self, length: int) -> Float[np.ndarray, "n n"]:
        """Of any `length` values that follow each other."""
