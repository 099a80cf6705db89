"""table: what a study found, as grids of texts and as rows of numbers.

The first grid carries what is claimed: means, both intervals, differences, ranks. The others say what was
measured, and at what cost. All numbers are means over the trials that are done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from calmkit.report.marks import marked_label, protocol_notes
from calmkit.report.measures import MATCHED, asked_measures, measure, quantity
from calmkit.report.reading import (
    Cell,
    Pick,
    Summary,
    chunk_size,
    difference,
    done,
    evaluated,
    fact,
    knows_text,
    mean,
    parameters,
    rank_text,
    ranked,
    scale,
    score,
    train_flops,
    unfinished,
)
from calmkit.report.render import Grid

STATES = {"short": "off its budget", "failed": "failed", "open": "not done"}


@dataclass(frozen=True)
class Column:
    """A column of means: its head, what it takes out of a trial, and how a mean becomes text."""

    head: str
    pick: Pick
    form: Callable[[float], str]

    def text(self, cell: Cell) -> str:
        """The mean over a cell's trials; `-` where none knows it."""
        value = mean(cell, self.pick)
        return "-" if value is None else self.form(value)


def _digits(digits: int, factor: float = 1.0, unit: str = "") -> Callable[[float], str]:
    return lambda value: f"{factor * value:,.{digits}f}{unit}"


def _short(value: float) -> str:
    return quantity(value).strip()


SCORES = (
    *(Column(f"Brier-{n}", evaluated(f"brier_{n}"), _digits(2, 100.0)) for n in (1, 2, 3, 4)),
    Column("nats/token", evaluated("nll_per_token"), _digits(3)),
    Column("block", evaluated("block_tokens"), _digits(0)),
    Column("context", evaluated("context_tokens"), _digits(0)),
    Column("units", evaluated("units"), _digits(0)),
    Column("documents", evaluated("documents"), _digits(0)),
)
EVALUATED_FROM = 5  # the columns of SCORES before it are scores, the others say over how much text
COSTS = (
    Column("params", parameters, _short),
    Column("train FLOPs", train_flops, _short),
    Column("seconds", fact("lm_seconds"), _digits(0)),
    Column("FLOPs/token", fact("inference_flops_per_token"), _short),
    Column("tokens/s", evaluated("plain_tokens_per_second"), _digits(0)),
    Column("tokens/s sampled", evaluated("tokens_per_second"), _digits(0)),
    Column("draws/unit", evaluated("draws_per_unit"), _digits(1)),
    Column("calls/unit", evaluated("network_calls_per_unit"), _digits(1)),
)
EXACT, BOUND = "nll_per_token", "nll_bound_per_token"


def main_grid(summary: Summary) -> Grid:
    """One row per cell: the primary measure, what sets it apart from the baseline, and its rank."""
    shown = measure(summary["primary"], summary)
    heads = ["model", "K", "seeds", shown.name, "seeds 95 %", "text 95 %", "difference", "seeds 95 %"]
    rows = []
    for cell in ranked(summary):
        own, apart = score(cell, summary["primary"]), difference(cell)
        row = [marked_label(summary, cell), _chunk_size(cell), f"{len(done(cell))}/{len(cell['trials'])}"]
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
    return Grid(title(summary), [*heads, "text 95 %", "rank"], rows, 1, main_notes(summary))


def title(summary: Summary) -> str:
    """The study, what all its cells paid, and whom they are compared with."""
    match, name = summary["match"], measure(summary["primary"], summary).name
    paid = "as the runs were set up" if match is None else f"at {MATCHED[match['by']]}"
    return f"{summary['study']}: {name} {paid}, and the difference to {summary['baseline']}"


def main_notes(summary: Summary) -> list[str]:
    """What must stand under the table for its numbers to mean something."""
    shown = measure(summary["primary"], summary)
    notes = [f"{shown.name}: {scale(summary)}.", *protocol_notes(summary)]
    better = "more" if summary["higher_is_better"] else "less"
    notes.append(
        f"Means over seeds, {better} is better. Seeds 95 %: had other seeds been drawn. Text 95 %: had other "
        "documents been held out. Differences are in pairs, by seed and document; a rank counts only those "
        "whose two intervals both leave zero out, and is not adjusted for their number."
        if knows_text(summary)
        else f"Means over seeds, {better} is better. Seeds 95 %: had other seeds been drawn; there is no "
        "interval over the text. Differences are in pairs, by seed; a rank counts only those whose interval "
        "leaves zero out, and is not adjusted for their number."
    )
    if summary["primary"] != "brier_lm" and shown.meaning:
        notes.append(f"{shown.name}: {shown.meaning}")
    return notes + unfinished_notes(summary)


def unfinished_notes(summary: Summary) -> list[str]:
    """Who is in no mean, and why."""
    return [f"{one.who}: {STATES[one.state]}, in no mean: {_told(one.why)}" for one in unfinished(summary)]


def scores_grid(summary: Summary) -> Grid:
    """What else was scored, and over how much text."""
    cells, other = ranked(summary), summary["primary"] != "brier_lm"
    asked = [_asked(name, summary) for name in asked_measures(summary)]
    columns = [*SCORES[:EVALUATED_FROM], *asked, *SCORES[EVALUATED_FROM:]]
    rows = [
        [marked_label(summary, cell), *([_brier_lm(cell)] if other else []),
         *(nats(cell) if c.head == "nats/token" else c.text(cell) for c in columns)]
        for cell in cells
    ]  # fmt: skip
    heads = ["model", *(["BrierLM"] if other else []), *(column.head for column in columns)]
    notes = [
        "Brier-n in percent. Nats per token: exact, or an upper bound behind <=, or - without a density.",
        *(f"{column.head}: {measure(name, summary).meaning} {_better(name, summary)}"
          for column, name in zip(asked, asked_measures(summary), strict=True)),
    ]  # fmt: skip
    return Grid("Scores", heads, rows, 1, notes)


def _asked(name: str, summary: Summary) -> Column:
    """A column of means of a number that recipes asked for."""
    shown = measure(name, summary)
    return Column(shown.name, evaluated(name), shown.text)


def _better(name: str, summary: Summary) -> str:
    return f"{summary['measures'][name]['better'].capitalize()} is better."


def costs_grid(summary: Summary) -> Grid:
    """What training and use cost."""
    cells = ranked(summary)
    rows = [
        [
            marked_label(summary, cell),
            *(calls(cell) if c.head == "calls/unit" else c.text(cell) for c in COSTS),
        ]
        for cell in cells
    ]
    notes = [
        "Params: all parts, the frozen autoencoder included. Train FLOPs: both stages, a shared autoencoder "
        "in full. Seconds: of stage 2. FLOPs/token, tokens/s: one text, one plain draw per unit. Tokens/s "
        "sampled, draws and head calls: with the recipe's sampler."
    ]
    return Grid("Cost", ["model", *(column.head for column in COSTS)], rows, 1, notes)


def nats(cell: Cell) -> str:
    """Cross-entropy where the head knows its density: exact, or an upper bound with `<=` before it."""
    exact, bound = mean(cell, evaluated(EXACT)), mean(cell, evaluated(BOUND))
    return f"{exact:.3f}" if exact is not None else "-" if bound is None else f"<={bound:.3f}"


def calls(cell: Cell) -> str:
    """Network calls of the head per unit; an adaptive solver has no such number."""
    column = COSTS[-1]
    return column.text(cell) if not done(cell) or mean(cell, column.pick) is not None else "adaptive"


def _chunk_size(cell: Cell) -> str:
    value = mean(cell, chunk_size)
    return "-" if value is None else f"{value:g}"


def _brier_lm(cell: Cell) -> str:
    found = score(cell, "brier_lm")
    return "-" if found is None else measure("brier_lm").text(found.mean)


def _told(why: str) -> str:
    return why if why.endswith(".") else f"{why}."
