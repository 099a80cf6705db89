"""table_rows: what a study found, as rows of unrounded numbers, per cell and per trial."""

from __future__ import annotations

from typing import Any

from calmkit.report.kind import words_of
from calmkit.report.measures import asked_measures
from calmkit.report.reading import (
    Cell,
    Pick,
    Summary,
    difference,
    done,
    evaluated,
    fact,
    mean,
    parameters,
    score,
    size,
    train_flops,
)
from calmkit.training.protocol import KEY

ENDS = ("seed_low", "seed_high", "text_low", "text_high")


def cell_rows(summary: Summary) -> tuple[list[str], list[list[Any]]]:
    """Heads and one row of unrounded numbers per cell, in the order of the study."""
    name, sized = summary["primary"], words_of(summary).size
    picks = _number_columns(summary)
    heads = [
        "cell",
        *([sized.name] if sized else []),
        "seeds_done",
        "seeds_asked",
        name,
        *(f"{name}_{end}" for end in ENDS),
    ]
    heads += ["difference", *(f"difference_{end}" for end in ENDS), "rank_best", "rank_worst", *picks]
    heads += ["protocol"]
    rows = []
    for cell in summary["cells"]:
        row: list[Any] = [cell["label"], *([mean(cell, size(summary))] if sized else [])]
        row += [len(done(cell)), len(cell["trials"])]
        for found in (score(cell, name), difference(cell)):
            row += [None] * 5 if found is None else [found.mean, *(getattr(found, end) for end in ENDS)]
        row += cell["rank"] or [None, None]
        rows.append(row + [mean(cell, pick) for pick in picks.values()] + [_protocol(summary, cell)])
    return heads, rows


def _protocol(summary: Summary, cell: Cell) -> str | None:
    """The name of the one that a cell was measured by."""
    return next((one["name"] for one in summary.get("protocols", []) if cell["label"] in one["cells"]), None)


def _number_columns(summary: Summary) -> dict[str, Pick]:
    """Name -> what it takes out of a trial, of the columns of `table.csv` behind the claims."""
    words = words_of(summary)
    names = [*words.csv, *asked_measures(summary), *(one.name for one in words.over)]
    names = [name for name in names if name != summary["primary"]]
    return {
        **{name: evaluated(name) for name in names},
        "parameters": parameters,
        "train_flops": train_flops,
        "train_seconds": fact("lm_seconds"),
        words.flops: fact(words.flops),
    }


def trial_rows(summary: Summary) -> tuple[list[str], list[list[Any]]]:
    """Heads and one row per trial, whatever became of it, with every number of its evaluation."""
    trials = [(cell["label"], trial) for cell in summary["cells"] for trial in cell["trials"]]
    measured = list(dict.fromkeys(name for _, trial in trials for name in trial.get("evaluation", ())))
    measured = [name for name in measured if name != KEY]  # its own column tells its name
    words = words_of(summary)
    sized = [words.size.name] if words.size else []
    facts = ["lm_steps", "lm_seconds", *words.facts, "lm_train_flops", "autoencoder_train_flops"]
    facts += ["autoencoder_seconds", words.flops]
    heads = ["cell", "seed", "state", "why", "run", *sized, "parameters", *facts, *measured, KEY]
    rows = []
    for label, trial in trials:
        known = "facts" in trial
        row = [
            label,
            trial["seed"],
            trial["state"],
            trial["why"],
            trial["run"],
            *(trial.get(one) for one in sized),
        ]
        row += [
            parameters(trial) if known else None,
            *(trial["facts"].get(n) if known else None for n in facts),
        ]
        row += [trial.get("evaluation", {}).get(name) for name in measured]
        rows.append([*row, trial.get(KEY, {}).get("name")])
    return heads, rows
