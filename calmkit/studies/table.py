"""The table of a study: one row per model, the same columns in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from calmkit.studies.relation import relation_text
from calmkit.studies.sampling_figure import sampling_text

Cell = dict[str, Any]
REFERENCES = ("unigram", "bigram", "trigram")


@dataclass(frozen=True)
class Column:
    """A column: its head, and how a cell's result becomes its text."""

    head: str
    text: Callable[[Cell], str]


def _score(name: str, digits: int = 2, factor: float = 1.0) -> Callable[[Cell], str]:
    return lambda cell: f"{factor * cell['evaluation'][name]:.{digits}f}"


def _interval(cell: Cell) -> str:
    e = cell["evaluation"]
    return f"{e['brier_lm_low']:.2f}-{e['brier_lm_high']:.2f}"


def _calls(cell: Cell) -> str:
    calls = cell["evaluation"]["network_calls_per_unit"]
    return "adaptive" if calls is None else f"{calls:.0f}"


def _parameters(cell: Cell) -> str:
    return f"{sum(cell['facts']['parameters'].values()) / 1e6:.2f} M"


def nats_per_token(cell: Cell) -> str:
    """Cross-entropy where the head knows its density: exact, or an upper bound with `<=` before it."""
    e = cell["evaluation"]
    if "nll_per_token" in e:
        return f"{e['nll_per_token']:.3f}"
    return f"<={e['nll_bound_per_token']:.3f}" if "nll_bound_per_token" in e else "-"


def total_train_flops(cell: Cell) -> int | float:
    """Both stages, the shared autoencoder counted in full."""
    return cell["facts"]["lm_train_flops"] + cell["facts"].get("autoencoder_train_flops", 0)


COLUMNS = (
    Column("model", lambda cell: cell["label"]),
    Column("K", lambda cell: str(cell["chunk_size"])),
    Column("BrierLM", _score("brier_lm")),
    Column("95 %", _interval),
    *(Column(f"Brier-{n}", _score(f"brier_{n}", 2, 100.0)) for n in (1, 2, 3, 4)),
    Column("nats/token", nats_per_token),
    Column("params", _parameters),
    Column("train TFLOPs", lambda cell: f"{total_train_flops(cell) / 1e12:.2f}"),
    Column("seconds", lambda cell: f"{cell['facts']['lm_seconds']:.0f}"),
    Column("tokens/s", lambda cell: f"{cell['evaluation']['tokens_per_second']:.0f}"),
    Column("draws/unit", _score("draws_per_unit", 0)),
    Column("calls/unit", _calls),
)


def references(summary: dict[str, Any]) -> list[tuple[str, float]]:
    """BrierLM of the models that only count, at the baseline's positions; those too large to count are left
    out.
    """
    cell = _baseline(summary)
    found = [(name, cell["evaluation"].get(f"{name}_brier_lm")) for name in REFERENCES]
    return [(name, value) for name, value in found if value is not None]


def ceiling(summary: dict[str, Any]) -> dict[str, float]:
    """The best possible `brier_lm`, `brier_1` to `brier_4` and `nll_per_token` at the baseline's positions;
    empty where nobody knows the law of the text.
    """
    scores, mark = _baseline(summary)["evaluation"], "ceiling_"
    return {name.removeprefix(mark): value for name, value in scores.items() if name.startswith(mark)}


def _baseline(summary: dict[str, Any]) -> Cell:
    cells: list[Cell] = summary["cells"]
    return next((cell for cell in cells if cell["label"] == summary["baseline"]), cells[0])


def ceiling_text(summary: dict[str, Any]) -> str:
    """The ceiling in one line; empty where there is none."""
    best = ceiling(summary)
    if not best:
        return ""
    parts = ", ".join(f"Brier-{n} {100 * best[f'brier_{n}']:.2f}" for n in (1, 2, 3, 4))
    return (
        f"The ceiling, what the true source scores on average: BrierLM {best['brier_lm']:.2f} ({parts}), "
        f"{best['nll_per_token']:.3f} nats/token"
    )


def standing(cell: Cell) -> str:
    """Where a model stands against its untrained self, the counting models and the ceiling, in words."""
    e = cell["evaluation"]
    words = []
    rivals = [("its untrained self", e.get("untrained_brier_lm"))]
    rivals += [(f"the {name}", e.get(f"{name}_brier_lm")) for name in REFERENCES]
    for name, value in rivals:
        if value is None:
            continue
        if e["brier_lm_low"] > value:
            words.append(f"above {name} ({value:.2f})")
        elif e["brier_lm_high"] < value:
            words.append(f"below {name} ({value:.2f})")
        else:
            words.append(f"level with {name} ({value:.2f})")
    best = e.get("ceiling_brier_lm")
    if best is not None:
        distance = f"{best - e['brier_lm']:.2f} below" if e["brier_lm_high"] < best else "level with"
        above = e["brier_lm_low"] > best  # by chance, or by reading what it should not
        words.append(f"{'above' if above else distance} the ceiling ({best:.2f})")
    return f"{cell['label']} ({e['brier_lm']:.2f}): " + ", ".join(words)


def as_text(summary: dict[str, Any]) -> str:
    """The table, the standings and a sample of each model, as plain text."""
    rows = [[column.head for column in COLUMNS]]
    rows += [[column.text(cell) for column in COLUMNS] for cell in ranked(summary)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [f"Study {summary['study']}, equal {summary['matched_by'].replace('_', ' ')}; Brier-n in percent"]
    for row in rows:
        head, *rest = (
            text.ljust(w) if i == 0 else text.rjust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([head, *rest]).rstrip())
    lines += [
        "",
        "Models that only count, BrierLM: " + ", ".join(f"{n} {v:.2f}" for n, v in references(summary)),
    ]
    if ceiling(summary):
        lines.append(ceiling_text(summary))
    lines += ["", *(standing(cell) for cell in ranked(summary))]
    accuracy = [c["evaluation"].get("reconstruction_token_accuracy") for c in summary["cells"]]
    known = [a for a in accuracy if a is not None]
    if known:
        lines += ["", f"Held-out tokens that the autoencoder gives back: {100 * min(known):.2f} %"]
    if summary.get("relation"):
        lines += ["", *relation_text(summary["relation"])]
    if summary.get("sampling"):
        lines += ["", *sampling_text(summary["sampling"])]
    for cell in ranked(summary):
        lines += ["", f"--- {cell['label']} ---", cell["sample"].strip()]
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    lines += ["", f"{minutes} min {seconds:02d} s on {summary['hardware']}, commit {summary['commit']}"]
    return "\n".join(lines) + "\n"


def ranked(summary: dict[str, Any]) -> list[Cell]:
    """Cells, the best BrierLM first."""
    return sorted(summary["cells"], key=lambda cell: -cell["evaluation"]["brier_lm"])
