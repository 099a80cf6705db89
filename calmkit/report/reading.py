"""reading: what tables, figures and words ask of results: means over what is done, order, scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import isfinite
from string import Formatter
from typing import Any

from calmkit.report.kind import words_of
from calmkit.report.marks import mark
from calmkit.results.statistics import Interval

Summary = dict[str, Any]
Cell = dict[str, Any]
Trial = dict[str, Any]
Pick = Callable[[Trial], "float | None"]
"""Takes a number out of a trial; None where it does not know it."""
BEST = "ceiling_"


def done(cell: Cell) -> list[Trial]:
    """The trials of a cell that count, by seed."""
    return sorted((t for t in cell["trials"] if t["state"] == "done"), key=lambda trial: trial["seed"])


def done_cells(summary: Summary) -> list[Cell]:
    """The cells that have a trial that is done."""
    return [cell for cell in summary["cells"] if done(cell)]


def evaluated(name: str) -> Pick:
    """Takes a number of the evaluation."""
    return lambda trial: trial["evaluation"].get(name)


def fact(name: str) -> Pick:
    """Takes a number of the model's facts."""
    return lambda trial: trial["facts"].get(name)


def size(summary: Summary) -> Pick:
    """Takes the fact that stands beside a model's name, for kinds of data that have one."""
    shown = words_of(summary).size
    return lambda trial: None if shown is None else trial.get(shown.name)


def train_flops(trial: Trial) -> float:
    """Both stages, a shared autoencoder counted in full."""
    return float(trial["facts"]["lm_train_flops"] + trial["facts"].get("autoencoder_train_flops", 0))


def parameters(trial: Trial) -> int:
    """Of all parts, the frozen autoencoder included."""
    return sum(trial["facts"]["parameters"].values())


def mean(cell: Cell, pick: Pick) -> float | None:
    """Over the trials that are done and know it; None where none does. NaN is not known."""
    known = [value for trial in done(cell) if (value := pick(trial)) is not None and isfinite(value)]
    return sum(known) / len(known) if known else None


def score(cell: Cell, name: str) -> Interval | None:
    """A measure's mean over seeds with its intervals; None where no trial knows it, or where it is NaN."""
    found = cell["summary"].get(name)
    if found is not None and isfinite(found["mean"]):
        return Interval(**found)
    value = mean(cell, evaluated(name))
    return None if value is None else Interval(value, len(done(cell)))


def has_own_intervals(summary: Summary) -> bool:
    """Whether the primary measure has an interval over the data of each evaluation alone, and none by
    group.
    """
    words = words_of(summary)
    return words.own_interval and summary["primary"] == words.primary


def shown_score(summary: Summary, cell: Cell) -> Interval | None:
    """The primary measure; where only single runs know an interval over the data, with the widest of
    these.
    """
    name = summary["primary"]
    found = score(cell, name)
    if found is None or found.text_low is not None or not has_own_intervals(summary):
        return found
    lows, highs = (
        [value for trial in done(cell) if (value := trial["evaluation"].get(f"{name}_{end}")) is not None]
        for end in ("low", "high")
    )
    return replace(found, text_low=min(lows), text_high=max(highs)) if lows and highs else found


def difference(cell: Cell) -> Interval | None:
    """The primary measure of a cell minus that of the baseline; None where nothing can be said."""
    return None if cell["difference"] is None else Interval(**cell["difference"])


def ranked(summary: Summary) -> list[Cell]:
    """Cells, the best mean of the primary measure first, those without one last; cells that were not measured
    alike stand apart.
    """
    sign = -1 if summary["higher_is_better"] else 1

    def place(cell: Cell) -> tuple[bool, str, float]:
        found = score(cell, summary["primary"])
        return found is None, mark(summary, cell), 0.0 if found is None else sign * found.mean

    return sorted(summary["cells"], key=place)


def rank_text(cell: Cell) -> str:
    """`2`, or `2-4` where the differences leave that open; `-` where nothing is ranked."""
    if cell["rank"] is None:
        return "-"
    best, worst = cell["rank"]
    return str(best) if best == worst else f"{best}-{worst}"


def baseline(summary: Summary) -> Cell | None:
    """The cell that the others are compared with, or the first that is done; None where none is."""
    cells = done_cells(summary)
    return next((cell for cell in cells if cell["label"] == summary["baseline"]), cells[0] if cells else None)


@dataclass(frozen=True)
class Rival:
    """What models are held against, and its score on the baseline's rows; `line` is that of figures."""

    label: str
    value: float
    line: str


def references(summary: Summary) -> list[Rival]:
    """Those with a line in figures, as far as they are known: what is simpler, then what is best possible."""
    cell = baseline(summary)
    values = [
        (one, None if cell is None else mean(cell, evaluated(one.name))) for one in words_of(summary).rivals
    ]
    return [Rival(one.label, value, one.line) for one, value in values if one.line and value is not None]


def ceiling(summary: Summary) -> dict[str, float]:
    """The best possible of each number, on the baseline's rows; empty where nobody knows the law of the
    data.
    """
    cell = baseline(summary)
    if cell is None:
        return {}
    names = {name for trial in done(cell) for name in trial["evaluation"] if name.startswith(BEST)}
    found = {name.removeprefix(BEST): mean(cell, evaluated(name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Unfinished:
    """Trials of one cell that no mean counts, for one reason."""

    label: str
    state: str
    why: str
    seeds: tuple[int, ...]

    @property
    def who(self) -> str:
        """Cell and seeds."""
        return f"{self.label}, seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"


def unfinished(summary: Summary) -> list[Unfinished]:
    """All that no mean counts, in the order of the cells."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for cell in summary["cells"]:
        for trial in cell["trials"]:
            if trial["state"] != "done":
                found.setdefault((cell["label"], trial["state"], trial["why"]), []).append(trial["seed"])
    return [Unfinished(*key, tuple(seeds)) for key, seeds in found.items()]


def span(values: Iterable[float | None], form: str = ",.0f", to: str = " to ") -> str:
    """The least and the greatest of the known values, or the one that all share, as text."""
    texts = [format(value, form) for value in sorted(value for value in values if value is not None)]
    if not texts:
        return "unknown"
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]}{to}{texts[-1]}"


def scale(summary: Summary) -> str:
    """Over what was measured: a score says little without."""
    trials, words = [trial for cell in summary["cells"] for trial in done(cell)], words_of(summary)
    grouped = all(trial["evaluation"].get(f"{words.group}s") for trial in trials)
    told = words.scale if grouped or not words.scale_ungrouped else words.scale_ungrouped
    names = [name for _, name, _, _ in Formatter().parse(told) if name]
    return told.format_map({n: span(trial["evaluation"].get(n) for trial in trials) for n in names})


def knows_text(summary: Summary) -> bool:
    """Whether the primary measure has intervals over the data, by which differences are settled."""
    known = [score(cell, summary["primary"]) for cell in done_cells(summary)]
    return any(one is not None and one.text_low is not None for one in known)
