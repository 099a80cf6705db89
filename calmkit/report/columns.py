"""columns: the columns of a table that a reader chooses by name, each a number with what leaves it open.

SIZE, seeds, PRIMARY, text, difference, difference_text, rank     the main table
parameters, train_flops, train_seconds, ...                       what training and use cost
every number of an evaluation.json                                means over seeds

SIZE is the fact that stands beside a model's name, where the kind of data has one; `text` is the interval
over held-out data of any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from calmkit.interfaces import ColumnWords
from calmkit.report.entries import Entry, entry_of, notes_of, over_text
from calmkit.report.kind import words_of
from calmkit.report.marks import marked_label
from calmkit.report.measures import measure
from calmkit.report.reading import (
    Cell,
    Summary,
    difference,
    done,
    done_cells,
    evaluated,
    mean,
    rank_text,
    ranked,
    score,
    size,
)
from calmkit.report.render import Grid
from calmkit.report.table import Column, costs_of, over_of, scores_of, title
from calmkit.report.table_rows import ENDS, cell_rows
from calmkit.training.errors import RunFailed
from calmkit.training.protocol import KEY

COMPACT = ("difference", "rank")
"""Behind the primary measure: the table that fits a column."""
COSTS = ("parameters", "train_flops", "train_seconds")
"""What every kind of data knows of what training cost, by the names of `table.csv`."""


@dataclass(frozen=True)
class TableColumn:
    """A column.

    Attributes:
        name: What a reader calls it.
        head: What stands above it.
        entry: Of a cell.
        numbers: Heads of the unrounded numbers in `table.csv` that it stands for; empty: its own mean.
    """

    name: str
    head: str
    entry: Callable[[Cell], Entry]
    numbers: tuple[str, ...] = ()


def chosen(summary: Summary, names: Sequence[str] | None) -> list[TableColumn]:
    """The columns with these names, or the compact ones.

    Raises:
        RunFailed: No column has that name, or there is none.
    """
    known = known_columns(summary)
    wanted = (summary["primary"], *COMPACT) if names is None else tuple(dict.fromkeys(names))
    if not wanted:
        raise RunFailed(f"No column is named; there are {_listed(summary)}.")
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, 1)
            guess = f"did you mean '{near[0]}'? There are" if near else "there are"
            raise RunFailed(f"No column is called '{name}'; {guess} {_listed(summary)}.")
    return [known[name] for name in wanted]


def _listed(summary: Summary) -> str:
    shown = words_of(summary)
    names = [shown.size.name] if shown.size else []
    names += ["seeds", summary["primary"], "text", "difference", "difference_text", "rank"]
    names += [one.called for one in shown.scores if one.called]
    names += _forms(summary)
    return f"{', '.join(dict.fromkeys(names))}, and every other number of an evaluation.json"


def _forms(summary: Summary) -> dict[str, Column]:
    """What the tables of scores and costs show, by the names of `table.csv`; those that are called otherwise
    left out.
    """
    scored = [one for one in (*scores_of(summary), *over_of(summary)) if one.words and not one.words.called]
    first, *costs = costs_of(summary)
    names = [*(one.words.name for one in scored if one.words), *COSTS, words_of(summary).flops]
    names += [one.words.name for one in costs if one.words]
    return dict(zip(names, [*scored, first, *costs], strict=True))


def columns_grid(summary: Summary, names: Sequence[str]) -> Grid:
    """The chosen columns as a grid of texts, the best model first.

    Raises:
        RunFailed: A column is unknown.
    """
    columns, cells = chosen(summary, names), ranked(summary)
    entries = [[column.entry(cell) for column in columns] for cell in cells]
    rows = [
        [marked_label(summary, cell), *(one.text for one in row)]
        for cell, row in zip(cells, entries, strict=True)
    ]
    heads = ["model", *(column.head for column in columns)]
    return Grid(title(summary), heads, rows, 1, notes_of(summary, entries))


def known_columns(summary: Summary) -> dict[str, TableColumn]:
    """All columns of these results, by name."""
    name, words = summary["primary"], words_of(summary)
    shown = measure(name, summary)
    own = [
        TableColumn("seeds", "seeds", _seeds, ("seeds_done", "seeds_asked")),
        TableColumn(name, shown.name, lambda cell: entry_of(score(cell, name), shown), _ends(name)),
        TableColumn(
            "text", f"{shown.name}, {words.data}", lambda cell: over_text(score(cell, name), shown),
            _text_ends(name),
        ),
        TableColumn(
            "difference", "difference", lambda cell: entry_of(difference(cell), shown, "+"),
            _ends("difference"),
        ),
        TableColumn(
            "difference_text", f"difference, {words.data}",
            lambda cell: over_text(difference(cell), shown, "+"), _text_ends("difference"),
        ),
        TableColumn("rank", "rank", lambda cell: Entry(rank_text(cell)), ("rank_best", "rank_worst")),
    ]  # fmt: skip
    if words.size is not None:
        own.insert(0, _size(summary, words.size))
    own += [_called(one) for one in scores_of(summary) if one.words and one.words.called]
    found, forms = {column.name: column for column in own}, _forms(summary)
    for other in [*forms, *_evaluated(summary)]:
        found.setdefault(other, _number(other, summary, forms))
    return found


def _evaluated(summary: Summary) -> list[str]:
    """Names of all numbers in the evaluations of what is done."""
    evaluations = [trial["evaluation"] for cell in done_cells(summary) for trial in done(cell)]
    return list(dict.fromkeys(
        name for one in evaluations for name, value in one.items() if isinstance(value, int | float)
    ))  # fmt: skip


def _number(name: str, summary: Summary, forms: Mapping[str, Column]) -> TableColumn:
    if name in forms:
        return TableColumn(name, forms[name].head, lambda cell: Entry(forms[name].text(cell)))
    shown = measure(name, summary)
    return TableColumn(name, shown.name, lambda cell: entry_of(score(cell, name), shown))


def _size(summary: Summary, shown: ColumnWords) -> TableColumn:
    pick = size(summary)
    return TableColumn(shown.name, shown.head, lambda cell: _plain(mean(cell, pick), "g"), (shown.name,))


def _called(column: Column) -> TableColumn:
    assert column.words is not None
    numbers = tuple(filter(None, (column.words.name, column.words.bound)))
    return TableColumn(column.words.called, column.head, lambda cell: Entry(column.text(cell)), numbers)


def _seeds(cell: Cell) -> Entry:
    return Entry(f"{len(done(cell))}/{len(cell['trials'])}")


def _plain(value: float | None, form: str) -> Entry:
    return Entry("-" if value is None else format(value, form))


def _ends(name: str) -> tuple[str, ...]:
    return (name, *(f"{name}_{end}" for end in ENDS))


def _text_ends(name: str) -> tuple[str, ...]:
    return (name, *(f"{name}_{end}" for end in ENDS if end.startswith("text")))


def chosen_rows(summary: Summary, names: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Heads and unrounded numbers of the chosen columns, a row per cell; last the protocol, if several."""
    columns = chosen(summary, names)
    heads, rows = cell_rows(summary)
    known = [dict(zip(heads, row, strict=True)) for row in rows]
    numbers = list(dict.fromkeys(head for one in columns for head in one.numbers or (one.name,)))
    if len(summary.get("protocols", [])) > 1:
        numbers.append(KEY)

    def value(cell: Cell, row: dict[str, Any], head: str) -> Any:
        return row[head] if head in row else mean(cell, evaluated(head))

    cells = zip(summary["cells"], known, strict=True)
    return ["cell", *numbers], [[row["cell"], *(value(cell, row, n) for n in numbers)] for cell, row in cells]
