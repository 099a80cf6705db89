"""What the samplers of a study were worth: a row per trial and sampler, and their means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from calmkit.interfaces import KindWords
from calmkit.results.same_point import Names, same_points
from calmkit.results.sampling_lines import Row
from calmkit.studies.asked_rows import Score, ends_of
from calmkit.studies.sampling import SamplerSpec


def sampler_row(spec: SamplerSpec, scores: Mapping[str, Any]) -> Row:
    """What one sampler is worth on one trial: see `DataKind.score_sampler`."""
    return {"sampler": spec.label, "name": spec.part.name, "stated": dict(spec.stated), **scores}


def over_seeds(
    cells: Sequence[Mapping[str, Any]], score: Score, names: Names | None = None
) -> dict[str, Any]:
    """The samplers' rows of all trials that are done, averaged over the seeds of a cell.

    A standard error is that over seeds from two seeds on, else the one over rows. What seeds and data leave
    open of the score stands in `<score>_seed_low`, `_seed_high`, `_text_low` and `_text_high`.

    Returns:
        `units`, `rows` with `cell` and `seeds` beside what `sampler_row` gives, `left_out` with `cell`, and
        `same_point`, which sampler can stand in place of which (`calmkit.results.same_point`), with `cell`.
    """
    same: list[Row] = []
    rows: list[Row] = []
    left_out: list[dict[str, str]] = []
    for cell in cells:
        asked = [t["sampling"] for t in cell["trials"] if t["state"] == "done" and t.get("sampling")]
        by_sampler: dict[str, list[Row]] = {}
        for one in asked:
            for row in one["rows"]:
                by_sampler.setdefault(row["sampler"], []).append(row)
        if names is not None:
            found = same_points([one["rows"] for one in asked], names)
            same += [{"cell": cell["label"]} | one.as_row() for one in found]
        rows += [{"cell": cell["label"]} | _averaged(group, score) for group in by_sampler.values()]
        if asked:
            left_out += [{"cell": cell["label"]} | one for one in asked[0]["left_out"]]
    units = max((row["units"] for row in rows), default=0)
    return {"units": units, "rows": rows, "left_out": left_out, "same_point": same}


def names_of(words: KindWords) -> Names | None:
    """What a kind of data scores samplers by; None where that is not accuracy and collision."""
    if len(words.sampled) != 2:
        return None
    right, agree = words.sampled
    return Names(right.name, agree.name, right.factor, agree.factor)


def _averaged(group: Sequence[Row], score: Score) -> Row:
    whole = {name: [row[name] for row in group if row[name] is not None] for name in group[0]}
    for name in (score.groups, *score.single):
        whole.pop(name, None)
    mean: Row = {name: group[0][name] for name in whole} | {"seeds": len(group)}
    for name, values in whole.items():
        if any(isinstance(value, float) for value in values):
            mean[name] = sum(values) / len(values)
        elif values and all(isinstance(value, list) for value in values):
            mean[name] = [sum(column) / len(values) for column in zip(*values, strict=True)]
    levels = dict.fromkeys(level for row in group for level in row["levels"])
    mean["levels"] = {
        level: sum(row["levels"].get(level, 0.0) for row in group) / len(group) for level in levels
    }
    for name in (name for name in whole if f"{name}_se" in whole and len(whole[name]) > 1):
        mean[f"{name}_se"] = stdev(whole[name]) / math.sqrt(len(whole[name]))
    mean["max_draws"] = max(row["max_draws"] for row in group)
    return mean | {f"{score.name}_{end}": value for end, value in ends_of(group, score).items()}
