"""What a study asked of a trial, as rows of numbers: what seeds and held-out data leave open of their score.

A trial's row holds what each held-out group of units gave, as the table beside an evaluation does, under the
word that its kind of data has for them. From these, and from the scores of the seeds, the two intervals are
made as those of the main table are; an average of the ends of single intervals would be none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calmkit.results.statistics import Statistic, interval, replicates, table_of

Row = dict[str, Any]
ENDS = ("seed_low", "seed_high", "text_low", "text_high")


@dataclass(frozen=True)
class Score:
    """The number that rows are scored by.

    Attributes:
        name: As stored.
        of: How it follows from the sums of their groups.
        groups: Under which a row holds these; see `KindWords.groups`.
    """

    name: str
    of: Statistic
    groups: str

    @property
    def single(self) -> tuple[str, str]:
        """Its ends of one seed, over its own groups or rows: in a trial's row, and in no mean."""
        return f"{self.name}_low", f"{self.name}_high"


def ends_of(group: Sequence[Mapping[str, Any]], score: Score) -> dict[str, float | None]:
    """`seed_low`, `seed_high`, `text_low` and `text_high` of the mean score of rows, one per seed.

    The first two are None where all seeds stand at 0: there the score is clamped, and their agreement says
    nothing.
    """
    drawn = replicates([[table_of(row.get(score.groups) or ()) for row in group]], score.of)
    found = interval([row[score.name] for row in group], None if drawn is None else drawn[0])
    ends = {end: getattr(found, end) for end in ENDS}
    clamped = not any(row[score.name] for row in group)
    return ends | ({"seed_low": None, "seed_high": None} if clamped else {})


def without_groups(trial: Mapping[str, Any], groups: str) -> dict[str, Any]:
    """A trial without what each group gave in its rows, which results don't show."""
    found = dict(trial)
    if "sampling" in found:
        found["sampling"] = found["sampling"] | {"rows": _slim(found["sampling"]["rows"], groups)}
    if "blocks" in found:
        found["blocks"] = _slim(found["blocks"], groups)
    return found


def _slim(rows: Sequence[Row], groups: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name != groups} for row in rows]
