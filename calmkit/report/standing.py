"""standing: where each model stands against its untrained self, what is simpler, and what is best
possible.
"""

from __future__ import annotations

from calmkit.interfaces import RivalWords
from calmkit.report.kind import words_of
from calmkit.report.marks import marked_label
from calmkit.report.measures import measure
from calmkit.report.reading import (
    Cell,
    Summary,
    ceiling,
    done,
    done_cells,
    evaluated,
    mean,
    ranked,
    score,
)
from calmkit.report.render import Grid
from calmkit.report.table import column_of
from calmkit.results.statistics import Interval


def standing_grid(summary: Summary) -> Grid | None:
    """One row per model that is done, the best first; None where there is nothing to hold it against."""
    cells = [cell for cell in ranked(summary) if cell in done_cells(summary)]
    words = words_of(summary)
    rivals = [
        one for one in words.rivals if any(mean(cell, evaluated(one.name)) is not None for cell in cells)
    ]
    if not rivals:
        return None
    rows = [
        [marked_label(summary, cell), *(standing(summary, cell, one) for one in rivals)] for cell in cells
    ]
    notes = [
        f"Above, below: by all that seeds and {words.data} leave open; level: within it. {words.rivals_note}",
        *ceiling_lines(summary),
    ]
    return Grid(words.rivals_told, ["model", *(one.label for one in rivals)], rows, 1, notes)


def standing(summary: Summary, cell: Cell, rival: RivalWords) -> str:
    """`above 1.22`, `below 6.02` or `level 6.02`: against a rival's score on the model's own rows; `-`
    where it is unknown.
    """
    name = words_of(summary).primary
    own, value = score(cell, name), mean(cell, evaluated(rival.name))
    if own is None or value is None:
        return "-"
    low, high = _bounds(cell, own, name)
    # above a ceiling: by chance, or by reading what it should not
    return f"{'above' if low > value else 'below' if high < value else 'level'} {value:.2f}"


def ceiling_lines(summary: Summary) -> list[str]:
    """The best possible in a sentence; empty where nobody knows the law of the data."""
    best, told = ceiling(summary), words_of(summary).ceiling
    if not best or not told:
        return []
    return [told.format_map({name: measure(name, summary).text(value) for name, value in best.items()})]


def reconstruction_lines(summary: Summary) -> list[str]:
    """How well the autoencoders give back held-out data; empty where there is none."""
    coding = words_of(summary).coding
    if coding is None:
        return []
    column = column_of(coding)
    known = {cell["label"]: mean(cell, column.pick) for cell in summary["cells"]}
    told = {label: column.form(value) for label, value in known.items() if value is not None}
    if not told:
        return []
    shared = len(set(told.values())) == 1
    text = next(iter(told.values())) if shared else ", ".join(f"{k} {v}" for k, v in told.items())
    return [f"{coding.head}: {text}."]


def _bounds(cell: Cell, own: Interval, name: str) -> tuple[float, float]:
    """The widest that seeds and data allow; each run's own interval where there is none over the data."""
    ends = [own.seed_low, own.seed_high, own.text_low, own.text_high]
    if own.text_low is None:
        names = (f"{name}_low", f"{name}_high")
        own_ends = [trial["evaluation"].get(end) for trial in done(cell) for end in names]
        ends += own_ends  # the widest of them: a mean of ends would be the end of nothing
    known = [end for end in ends if end is not None] + [own.mean]
    return min(known), max(known)
