"""Time series of numbers as a kind of data of calmkit: all that comes in by the door, in one place."""

from __future__ import annotations

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Autoencoder, Corpus, DataKind, Measure
from calmkit_series.csv_corpus import CsvCorpus
from calmkit_series.kind import SeriesKind
from calmkit_series.measures import Crps, NatsPerValue, SeriesEnergy
from calmkit_series.units import SeriesUnits
from calmkit_series.waves import WavesCorpus


@hookimpl
def calmkit_data_kinds() -> dict[str, type[DataKind]]:
    """The kind of data of this plugin."""
    return {"series": SeriesKind}


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """Where its data come from."""
    return {"series_csv": CsvCorpus, "series_waves": WavesCorpus}


@hookimpl
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:
    """Its units."""
    return {"series_units": SeriesUnits}


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """Its numbers."""
    return {"crps": Crps, "nats_per_value": NatsPerValue, "series_energy": SeriesEnergy}
