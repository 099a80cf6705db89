"""table: what a study found, as grids of texts and as rows of numbers.

The first grid carries what is claimed: means, both intervals, differences, ranks. The others say what was
measured, and at what cost. All numbers are means over the trials that are done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from calmkit.interfaces import ColumnWords
from calmkit.report.kind import words_of
from calmkit.report.marks import marked_label, protocol_notes
from calmkit.report.measures import asked_measures, measure, quantity
from calmkit.report.reading import (
    Cell,
    Pick,
    Summary,
    difference,
    done,
    evaluated,
    fact,
    has_own_intervals,
    knows_text,
    mean,
    parameters,
    rank_text,
    ranked,
    scale,
    score,
    shown_score,
    size,
    train_flops,
    unfinished,
)
from calmkit.report.render import Grid

STATES = {"short": "off its budget", "failed": "failed", "open": "not done"}


@dataclass(frozen=True)
class Column:
    """A column of means: its head, what it takes out of a trial, how a mean becomes text, and, of a number of
    the evaluation, its words.
    """

    head: str
    pick: Pick
    form: Callable[[float], str]
    words: ColumnWords | None = None

    def text(self, cell: Cell) -> str:
        """The mean over a cell's trials, or `<=` and that of its bound; `-` where none knows either."""
        value = mean(cell, self.pick)
        if value is not None:
            return self.form(value)
        if self.words is None or not done(cell):
            return "-"
        bound = mean(cell, evaluated(self.words.bound)) if self.words.bound else None
        return self.words.missing if bound is None else f"<={self.form(bound)}"


def _digits(digits: int, factor: float = 1.0, unit: str = "") -> Callable[[float], str]:
    return lambda value: f"{factor * value:,.{digits}f}{unit}"


def _short(value: float) -> str:
    return quantity(value).strip()


def column_of(words: ColumnWords) -> Column:
    """A number of the evaluation; its bound where it is not known; what is said of what is missing."""
    return Column(words.head, evaluated(words.name), _digits(words.digits, words.factor), words)


def scores_of(summary: Summary) -> list[Column]:
    """Scores, in order; those that a recipe asked for stand behind them."""
    return [column_of(one) for one in words_of(summary).scores]


def over_of(summary: Summary) -> list[Column]:
    """Over how much was measured."""
    return [column_of(one) for one in words_of(summary).over]


def costs_of(summary: Summary) -> list[Column]:
    """What training and use cost: first what every kind of data knows."""
    words = words_of(summary)
    return [
        Column("params", parameters, _short),
        Column("train FLOPs", train_flops, _short),
        Column("seconds", fact("lm_seconds"), _digits(0)),
        Column(f"FLOPs/{words.element}", fact(words.flops), _short),
        *map(column_of, words.costs),
    ]


def main_grid(summary: Summary) -> Grid:
    """One row per cell: the primary measure, what sets it apart from the baseline, and its rank."""
    shown, words = measure(summary["primary"], summary), words_of(summary)
    held = f"{words.data} 95 %"
    heads = ["model", *([words.size.head] if words.size else []), "seeds", shown.name, "seeds 95 %", held]
    rows = []
    for cell in ranked(summary):
        own, apart = shown_score(summary, cell), difference(cell)
        row = [marked_label(summary, cell), *([size_text(summary, cell)] if words.size else [])]
        row.append(f"{len(done(cell))}/{len(cell['trials'])}")
        row += ["-"] * 3 if own is None else [
            shown.text(own.mean),
            shown.interval(own.seed_low, own.seed_high),
            shown.interval(own.text_low, own.text_high),
        ]  # fmt: skip
        row += ["-"] * 3 if apart is None else [
            shown.text(apart.mean, "+"),
            shown.interval(apart.seed_low, apart.seed_high, "+"),
            shown.interval(apart.text_low, apart.text_high, "+"),
        ]  # fmt: skip
        rows.append([*row, rank_text(cell)])
    heads += ["difference", "seeds 95 %", held, "rank"]
    return Grid(title(summary), heads, rows, 1, main_notes(summary))


def title(summary: Summary) -> str:
    """The study, what all its cells paid, and whom they are compared with."""
    match, name = summary["match"], measure(summary["primary"], summary).name
    matched = {
        "train_flops": "equal training FLOPs",
        "steps": "the steps of each recipe",
        "wall_clock": "equal training time",
        "parameters": "equal parameters",
        "inference_flops": f"equal FLOPs per {words_of(summary).element}",
    }
    by = None if match is None else matched.get(match["by"], f"equal training {match['by']}")
    paid = "as the runs were set up" if by is None else f"at {by}"
    return f"{summary['study']}: {name} {paid}, and the difference to {summary['baseline']}"


def main_notes(summary: Summary) -> list[str]:
    """What must stand under the table for its numbers to mean something."""
    shown, words = measure(summary["primary"], summary), words_of(summary)
    notes = [f"{shown.name}: {scale(summary)}.", *protocol_notes(summary)]
    better = "more" if summary["higher_is_better"] else "less"
    data = words.data.capitalize()
    own = f"{data} 95 %: of each run alone, the widest ends; no difference is taken of it. "
    notes.append(
        f"Means over seeds, {better} is better. Seeds 95 %: had other seeds been drawn. {data} 95 %: had "
        f"other {words.group}s been held out. Differences are in pairs, by seed and {words.group}; a rank "
        "counts only those whose two intervals both leave zero out, and is not adjusted for their number."
        if knows_text(summary)
        else f"Means over seeds, {better} is better. Seeds 95 %: had other seeds been drawn"
        + (f". {own}" if has_own_intervals(summary) else f"; there is no interval over the {words.data}. ")
        + "Differences are in pairs, by seed; a rank counts only those whose interval "
        "leaves zero out, and is not adjusted for their number."
    )
    if shown.meaning and (words.explained or summary["primary"] != words.primary):
        notes.append(f"{shown.name}: {shown.meaning}")
    return notes + unfinished_notes(summary)


def unfinished_notes(summary: Summary) -> list[str]:
    """Who is in no mean, and why."""
    return [f"{one.who}: {STATES[one.state]}, in no mean: {_told(one.why)}" for one in unfinished(summary)]


def scores_grid(summary: Summary) -> Grid:
    """What else was scored, and over how much data."""
    words = words_of(summary)
    cells, other = ranked(summary), summary["primary"] != words.primary
    asked = [_asked(name, summary) for name in asked_measures(summary)]
    columns = [*scores_of(summary), *asked, *over_of(summary)]
    rows = [
        [marked_label(summary, cell), *([_usual(summary, cell)] if other else []),
         *(column.text(cell) for column in columns)]
        for cell in cells
    ]  # fmt: skip
    usual = [measure(words.primary, summary).name] if other else []
    notes = [
        *([words.scores_note] if words.scores_note else []),
        *(f"{column.head}: {measure(name, summary).meaning} {_better(name, summary)}"
          for column, name in zip(asked, asked_measures(summary), strict=True)),
    ]  # fmt: skip
    return Grid("Scores", ["model", *usual, *(column.head for column in columns)], rows, 1, notes)


def _asked(name: str, summary: Summary) -> Column:
    """A column of means of a number that recipes asked for."""
    shown = measure(name, summary)
    return Column(shown.name, evaluated(name), shown.text)


def _better(name: str, summary: Summary) -> str:
    return f"{summary['measures'][name]['better'].capitalize()} is better."


def costs_grid(summary: Summary) -> Grid:
    """What training and use cost."""
    columns = costs_of(summary)
    rows = [
        [marked_label(summary, cell), *(column.text(cell) for column in columns)] for cell in ranked(summary)
    ]
    told = (
        "Params: all parts, the frozen autoencoder included. Train FLOPs: both stages, a shared autoencoder "
        "in full. Seconds: of stage 2."
    )
    notes = [f"{told} {words_of(summary).costs_note}".rstrip()]
    return Grid("Cost", ["model", *(column.head for column in columns)], rows, 1, notes)


def size_text(summary: Summary, cell: Cell) -> str:
    """The fact that stands beside a model's name."""
    value = mean(cell, size(summary))
    return "-" if value is None else f"{value:g}"


def _usual(summary: Summary, cell: Cell) -> str:
    """The primary number of the kind of data, where another one is ranked by."""
    name = words_of(summary).primary
    found = score(cell, name)
    return "-" if found is None else measure(name, summary).text(found.mean)


def _told(why: str) -> str:
    return why if why.endswith(".") else f"{why}."
