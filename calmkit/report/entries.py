"""entries: a number with what seeds or held-out data leave open, in a form that fits a narrow column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calmkit.report.kind import words_of
from calmkit.report.marks import protocol_notes
from calmkit.report.measures import Shown, measure
from calmkit.report.reading import Summary, ranked, scale, score
from calmkit.report.table import unfinished_notes
from calmkit.results.statistics import Interval


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table.

    Attributes:
        value: A number, or any text.
        of: What its interval is over: `seeds`, `text` for held-out data of any kind, or empty without one.
        below: How far the lower end lies under it.
        above: How far the upper end lies over it; equally far, where the interval is over seeds.
    """

    value: str
    of: str = ""
    below: str = ""
    above: str = ""

    @property
    def text(self) -> str:
        """`6.20 +- 0.85` over seeds, `6.20 (+0.30 -0.40)` over held-out data."""
        return (
            self.value
            + {
                "": "",
                "seeds": f" +- {self.above}",
                "text": f" (+{self.above} -{self.below})",
            }[self.of]
        )


def entry_of(found: Interval | None, shown: Shown, sign: str = "") -> Entry:
    """With the seed interval, or that over the data where there is one seed."""
    if found is None or found.seed_low is None or found.seed_high is None:
        return over_text(found, shown, sign)
    half = shown.text((found.seed_high - found.seed_low) / 2)
    return Entry(shown.text(found.mean, sign), "seeds", half, half)


def over_text(found: Interval | None, shown: Shown, sign: str = "") -> Entry:
    """With the interval over held-out data, whose ends need not be equally far."""
    if found is None:
        return Entry("-")
    if found.text_low is None or found.text_high is None:
        return Entry(shown.text(found.mean, sign))
    below, above = max(0.0, found.mean - found.text_low), max(0.0, found.text_high - found.mean)
    return Entry(shown.text(found.mean, sign), "text", shown.text(below), shown.text(above))


def leaders(summary: Summary) -> set[str]:
    """Labels of the model with the best mean, and of all models to which the first rank is open: no other is
    settled to be better. None where they were not all measured alike.
    """
    if len(summary.get("protocols", [])) > 1:
        return set()
    known = [cell for cell in ranked(summary) if score(cell, summary["primary"]) is not None]
    return {cell["label"] for cell in known if cell is known[0] or (cell["rank"] and cell["rank"][0] == 1)}


def notes_of(summary: Summary, entries: Sequence[Sequence[Entry]]) -> list[str]:
    """What must stand under entries for them to mean something."""
    used = {entry.of for row in entries for entry in row}
    shown = measure(summary["primary"], summary)
    better = "more" if summary["higher_is_better"] else "less"
    notes = [*summary.get("warnings", []), f"{shown.name}: {scale(summary)}.", *protocol_notes(summary)]
    notes.append(f"Means over seeds, {better} is better; differences in pairs, by seed.")
    if "seeds" in used:
        notes.append("+-: 95 % over seeds, by Student's t.")
    if "text" in used:
        words = words_of(summary)
        notes.append(
            f"Two ends behind a number: 95 % over held-out {words.data}, by a bootstrap over {words.group}s."
        )
    return notes + unfinished_notes(summary)
