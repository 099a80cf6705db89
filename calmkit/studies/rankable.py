"""What runs can be ranked by: every number that a measure describes, ours and guests', and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from calmkit.interfaces import HeldOutMeasure, Measure, Number, stored_name
from calmkit.registry import Manager, Part
from calmkit.results.statistics import Statistic
from calmkit.training.measures import SETTINGS


@dataclass(frozen=True)
class Rankable:
    """A number that runs can be ranked by.

    Attributes:
        number: Its words and its direction.
        measure: The measure that yields it.
        asked: True where a recipe must ask for the measure; the others are in every evaluation.
        kind: Of data that it is about; empty: any.
        columns: Of a table by group: what the number follows from; empty where it is not kept.
        of: How it follows from their sums.
    """

    number: Number
    measure: str
    asked: bool
    kind: str
    columns: tuple[str, ...]
    of: Statistic

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.number.better == "higher" else -1


def rankable(manager: Manager) -> dict[str, Rankable]:
    """Stored name -> number, of all measures there are."""
    return {stored: _rankable(stored, number, part) for stored, (number, part) in manager.numbers().items()}


def of_kind(known: Mapping[str, Rankable], kind: str) -> dict[str, Rankable]:
    """Those that runs on one kind of data can be ranked by."""
    return {name: one for name, one in known.items() if one.kind in ("", kind)}


def _rankable(stored: str, number: Number, part: Part) -> Rankable:
    measure: type[Measure] = part.cls
    asked = issubclass(measure, HeldOutMeasure)
    columns = (stored, "units") if asked else measure.sums.get(stored, ())
    return Rankable(number, part.name, asked, measure.data_kind, columns, partial(measure.of_sums, stored))


def words(known: Mapping[str, Rankable], primary: str, trials: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Words of the primary number, and of all that trials that are done were asked to measure, or measured
    for their objective (numbers of no kind of data), for `results.json`: whoever shows it needs no plugin.
    """
    measured = {name for trial in trials if trial["state"] == "done" for name in trial["evaluation"]}
    return {
        name: asdict(one.number)
        for name, one in known.items()
        if name == primary or (name in measured and (one.asked or not one.kind))
    }


def measured_unalike(
    known: Mapping[str, Rankable], primary: str, cells: Iterable[Mapping[str, Any]]
) -> list[str]:
    """What a reader must know of a primary number that recipes ask for: who lacks it, who took it unalike."""
    one = known.get(primary)
    if one is None or not one.asked:
        return []
    label, lacking, settings = one.number.label, list[str](), set[str]()
    for cell in cells:
        trials = [trial["evaluation"] for trial in cell["trials"] if trial["state"] == "done"]
        lacking += [cell["label"]] if any(primary not in found for found in trials) else []
        own = stored_name(one.measure, SETTINGS)
        settings |= {str(found.get(own, "")) for found in trials if primary in found}
    found = []
    if lacking:
        cure = f"`calmkit eval RUN evaluation.metrics=[{one.measure}]` measures a run"
        found.append(f"Without {label}, so without a rank: {', '.join(lacking)}; {cure}.")
    if len(settings) > 1:
        told = "; ".join(sorted(settings))
        found.append(f"Not measured alike: {label} was taken with different settings ({told}).")
    return found
