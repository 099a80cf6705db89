"""From a corpus to what a run reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from jaxtyping import Float

from calmkit.data.digest import digest
from calmkit.interfaces import Autoencoder, DataError, Prepared
from calmkit_series.corpus import SeriesCorpus, Stretch
from calmkit_series.units import SeriesUnits

if TYPE_CHECKING:  # Lightning takes a while to load
    from calmkit.data.datamodule import RowsDataModule


@final
@dataclass(frozen=True)
class KeptLength:
    """What a run keeps of its series: nothing but the length of a row, which its recipe says."""

    length: int

    @property
    def sizes(self) -> dict[str, Any]:
        """What parts are built with."""
        return {"series_length": self.length}


@final
@dataclass(frozen=True)
class PreparedSeries(Prepared):
    """Both splits, in memory."""

    train: list[Stretch]
    valid: list[Stretch]
    length: int
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, Any]:  # type: ignore[override]
        """What parts are built with."""
        return KeptLength(self.length).sizes

    @property
    def told(self) -> str:  # type: ignore[override]
        """How many values there are."""
        train, valid = (sum(len(one.values) for one in split) for split in (self.train, self.valid))
        return f"{train:,} training and {valid:,} held-out values, rows of {self.length}"

    @property
    def train_values(self) -> Float[np.ndarray, " n"]:
        """All values to train on."""
        return np.concatenate([one.values for one in self.train])

    def facts(self, autoencoder: Autoencoder) -> dict[str, Any]:
        """The length of a row, and of a unit."""
        return {"series_length": self.length, "event": list(autoencoder.event.shape)}

    def save(self, folder: Path) -> None:
        """Nothing: the recipe says all that is needed, and the scale of the values is in the weights."""
        del folder

    def rows(
        self,
        recipe: Any,
        autoencoder: Any,
        *,
        batch_size: int,
        max_rows: int,
        among: int | None = None,
    ) -> RowsDataModule:
        """Rows of units."""
        from calmkit.data.datamodule import RowsDataModule
        from calmkit_series.rows import SeriesRows

        train, valid = (
            SeriesRows(split, self.length, width_of(autoencoder)) for split in (self.train, self.valid)
        )
        if not len(valid):
            raise DataError("no row is held out: no stretch of the valid split fills a unit")
        return RowsDataModule(
            train,
            valid,
            batch_size=batch_size,
            eval_batch_size=recipe.evaluation.batch_size,
            seed=recipe.seed,
            max_eval_rows=max_rows,
            among=among,
            cure="give longer series, or lower data.sequence_length or batch_size",
        )


def width_of(autoencoder: Any) -> int:
    """P, values of a unit."""
    assert isinstance(autoencoder, SeriesUnits)
    return autoencoder.unit_shape[0]


def prepare_series(corpus: SeriesCorpus, length: int) -> PreparedSeries:
    """Read both splits.

    Raises:
        DataError: Anything `SeriesCorpus.stretches` refuses.
    """
    train, valid = corpus.stretches("train"), corpus.stretches("valid")
    return PreparedSeries(train, valid, length, digest(corpus.identity(), str(length)), tuple(corpus.notes()))
