"""standing: where each model stands against its untrained self, the models that count, and the ceiling."""

from __future__ import annotations

from calmkit.report.marks import marked_label
from calmkit.report.reading import (
    REFERENCES,
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
from calmkit.results.statistics import Interval

RIVALS = ("untrained", *REFERENCES, "ceiling")
OWN_ENDS = ("brier_lm_low", "brier_lm_high")


def standing_grid(summary: Summary) -> Grid | None:
    """One row per model that is done, the best first; None where there is nothing to hold it against."""
    cells = [cell for cell in ranked(summary) if cell in done_cells(summary)]
    rivals = [name for name in RIVALS if any(rival(cell, name) is not None for cell in cells)]
    if not rivals:
        return None
    rows = [[marked_label(summary, cell), *(standing(cell, name) for name in rivals)] for cell in cells]
    notes = [
        "Above, below: by all that seeds and text leave open; level: within it. Unigram to trigram only "
        "count the same training text; their BrierLM is that at the model's own positions.",
        *ceiling_lines(summary),
    ]
    return Grid("BrierLM against simple models", ["model", *rivals], rows, 1, notes)


def rival(cell: Cell, name: str) -> float | None:
    """BrierLM of what a model is held against, at its own positions."""
    return mean(cell, evaluated(f"{name}_brier_lm"))


def standing(cell: Cell, name: str) -> str:
    """`above 1.22`, `below 6.02` or `level 6.02`: against a rival's score; `-` where it is unknown."""
    own, value = score(cell, "brier_lm"), rival(cell, name)
    if own is None or value is None:
        return "-"
    low, high = _bounds(cell, own)
    # above a ceiling: by chance, or by reading what it should not
    return f"{'above' if low > value else 'below' if high < value else 'level'} {value:.2f}"


def ceiling_lines(summary: Summary) -> list[str]:
    """The ceiling in a sentence; empty where nobody knows the law of the text."""
    best = ceiling(summary)
    if not best:
        return []
    parts = ", ".join(f"Brier-{n} {100 * best[f'brier_{n}']:.2f}" for n in (1, 2, 3, 4))
    return [
        f"The ceiling, what the true source scores on average: BrierLM {best['brier_lm']:.2f} ({parts}), "
        f"{best['nll_per_token']:.3f} nats/token."
    ]


def reconstruction_lines(summary: Summary) -> list[str]:
    """How many held-out tokens the autoencoders give back; empty where there is none."""
    pick = evaluated("reconstruction_token_accuracy")
    told = {c["label"]: f"{100 * v:.2f}" for c in summary["cells"] if (v := mean(c, pick)) is not None}
    if not told:
        return []
    shared = len(set(told.values())) == 1
    text = next(iter(told.values())) if shared else ", ".join(f"{k} {v}" for k, v in told.items())
    return [f"Held-out tokens that the autoencoder gives back, in percent: {text}."]


def _bounds(cell: Cell, own: Interval) -> tuple[float, float]:
    """The widest that seeds and text allow; each run's own interval where there is none over the text."""
    ends = [own.seed_low, own.seed_high, own.text_low, own.text_high]
    if own.text_low is None:
        own_ends = [trial["evaluation"].get(name) for trial in done(cell) for name in OWN_ENDS]
        ends += own_ends  # the widest of them: a mean of ends would be the end of nothing
    known = [end for end in ends if end is not None] + [own.mean]
    return min(known), max(known)
