"""words: a study's results in a few sentences, made from its numbers, that claim no more than these allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from calmkit.data.bad_records import percent
from calmkit.report.kind import words_of
from calmkit.report.measures import measure, quantity
from calmkit.report.reading import (
    Cell,
    Summary,
    difference,
    done,
    done_cells,
    has_own_intervals,
    knows_text,
    mean,
    ranked,
    scale,
    score,
    size,
    train_flops,
    unfinished,
)

UNEQUAL = 0.02  # of the largest training cost: apart by more is said
LEFT_OUT = {"short": "it missed its budget", "failed": "failed", "open": "not done"}
EQUAL = {
    "train_flops": "was trained for {0}FLOPs, both stages together",
    "wall_clock": "was trained for {1} seconds on one machine",
    "parameters": "has about {1} parameters",
    "inference_flops": "takes about {0}FLOPs per {2} in use",
}
ELEMENTS = "was trained on {1} {2}s"  # matched by these


def in_words(summary: Summary) -> list[str]:
    """Three to nine sentences, and one more where held-out data were trained on."""
    parts: Sequence[Callable[[Summary], str]] = (
        _what_was_equal, _leader, _settled, _open, _one_seed, _without_data, _leaked, _left_out, _measured,
    )  # fmt: skip
    found = [text for part in parts if (text := part(summary))]
    return [*summary.get("warnings", []), *found, *summary.get("remarks", [])]


def _what_was_equal(summary: Summary) -> str:
    cells = done_cells(summary)
    if len(cells) < 2:
        return ""
    match = summary["match"]
    who = f"{len(cells)} models, {_times(summary)}."
    if match is None or match["by"] == "steps":
        how = "by the steps of its own recipe" if match else "as its run was set up"
        return f"{who} Each was trained {how}; {cost_told(cells)}."
    paid = quantity(match["value"])
    equal = EQUAL.get(match["by"], ELEMENTS).format(paid, paid.strip(), words_of(summary).element)
    unequal = "" if match["by"] == "train_flops" else f" {_capital(cost_told(cells))}."
    return f"{who} Each {equal}.{unequal}"


def cost_told(cells: Sequence[Cell]) -> str:
    """Whether training cost the same, by more than rounding."""
    costs = {cell["label"]: mean(cell, train_flops) or 0.0 for cell in cells}
    low, high = min(costs, key=costs.__getitem__), max(costs, key=costs.__getitem__)
    if costs[high] - costs[low] <= UNEQUAL * costs[high]:
        return f"training cost the same, {quantity(costs[high])}FLOPs each"
    return (
        f"this is no comparison at equal cost: training took from {quantity(costs[low])}FLOPs ({low}) "
        f"to {quantity(costs[high])}FLOPs ({high})"
    )


def _leader(summary: Summary) -> str:
    cells = [cell for cell in ranked(summary) if score(cell, summary["primary"]) is not None]
    if not cells:
        return "No trial is done yet."
    if len(summary.get("protocols", [])) > 1:
        return "They were not measured alike, so no model leads: a rank counts among those of one protocol."
    shown, first = measure(summary["primary"], summary), cells[0]
    own = score(first, summary["primary"])
    assert own is not None
    value = shown.told(own.mean)
    if len(cells) == 1:
        known = "is done" if len(done_cells(summary)) == 1 else "has that measure"
        return f"{first['label']} is the only model that {known}: {value}."
    best = "highest" if summary["higher_is_better"] else "lowest"
    if first["rank"] is None:
        return f"{first['label']} has the {best} mean, {value}."
    if first["rank"] == [1, 1]:
        return f"{first['label']} leads with {value}: it is ahead of every other model {_by(summary)}."
    rivals = [cell["label"] for cell in cells[1:] if cell["rank"] and cell["rank"][0] == 1]
    ahead = f"first place is open between {_listed(['it', *rivals])}" if rivals else "its place is open"
    return f"{first['label']} has the {best} mean, {value}, but {ahead}."


def _settled(summary: Summary) -> str:
    better: list[str] = []
    worse: list[str] = []
    sign = 1 if summary["higher_is_better"] else -1
    for cell in ranked(summary):
        apart = difference(cell)
        if apart is not None and apart.settled:
            (better if apart.settled == sign else worse).append(_told(summary, cell))
    if not better and not worse:
        return ""
    parts = [f"{what}: {_listed(them)}" for what, them in (("better", better), ("worse", worse)) if them]
    return f"Settled against {summary['baseline']} {_by(summary)}: {'; '.join(parts)}."


def _open(summary: Summary) -> str:
    apart = [(cell, difference(cell)) for cell in ranked(summary)]
    found = [_told(summary, cell) for cell, one in apart if one is not None and not one.settled]
    if not found:
        return ""
    return f"Not settled against {summary['baseline']}: {_listed(found)}."


def _one_seed(summary: Summary) -> str:
    single = [cell["label"] for cell in done_cells(summary) if len(done(cell)) == 1]
    if not single:
        return ""
    who = "Every model has" if len(single) == len(done_cells(summary)) else f"{_listed(single)}: there is"
    return (
        f"{who} one seed only, so how another training would have turned out is not known: it has no rank, "
        "and no difference with it is settled."
    )


def _without_data(summary: Summary) -> str:
    if not done_cells(summary) or knows_text(summary):
        return ""
    words, low = words_of(summary), f"{summary['primary']}_low"
    if has_own_intervals(summary):
        return (
            f"What other {words.data} would say is known of each run alone, not of differences: these "
            "are settled by seeds."
        )
    kept = any(low in trial["evaluation"] for cell in done_cells(summary) for trial in done(cell))
    why = f"too few {words.group}s are common to all" if kept else f"it is not kept by {words.group}"
    return (
        f"There is no interval over the {words.data} ({why}): other {words.data} might say otherwise, "
        "whatever the seeds say."
    )


def _leaked(summary: Summary) -> str:
    """Runs of an older calmkit don't tell: then nothing is said."""
    words = words_of(summary)
    shares = [t["evaluation"].get(words.leaked, 0.0) for c in done_cells(summary) for t in done(c)]
    if not any(shares):
        return ""
    most = f"{'up to ' if min(shares) < max(shares) else ''}{percent(max(shares))}"
    return (
        f"Of the held-out {words.group}s, {most} also stand in the training {words.data}: these scores "
        "reward learning by heart too."
    )


def _by(summary: Summary) -> str:
    return "by both intervals" if knows_text(summary) else "by the intervals over seeds"


def _left_out(summary: Summary) -> str:
    found = [f"{one.who} ({LEFT_OUT[one.state]})" for one in unfinished(summary)]
    return f"Left out of every mean: {'; '.join(found)}." if found else ""


def _measured(summary: Summary) -> str:
    if not done_cells(summary):
        return ""
    words = words_of(summary)
    sizes = {mean(cell, size(summary)) for cell in done_cells(summary)}
    usual = measure(words.primary, summary).name
    told = f"{usual} was measured on held-out {words.data}: {scale(summary)}."
    return f"{told} {words.size_told}".rstrip() if len(sizes) > 1 else told


def _told(summary: Summary, cell: Cell) -> str:
    apart, shown = difference(cell), measure(summary["primary"], summary)
    assert apart is not None
    return f"{cell['label']} ({shown.text(apart.mean, '+')})"


def _times(summary: Summary) -> str:
    counts = {len(done(cell)) for cell in done_cells(summary)}
    low, high = min(counts), max(counts)
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{number} seed{'' if high == 1 else 's'} each"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
