"""The table of a study's samplers: how often each is right and repeats itself, and what it costs."""

from __future__ import annotations

from typing import Any

from calmkit.interfaces import ColumnWords, KindWords
from calmkit.metrics.blocks import FEWEST_GROUPS
from calmkit.report.kind import words_of
from calmkit.report.measures import Shown, measure
from calmkit.report.reading import Summary, span
from calmkit.report.render import Grid
from calmkit.results.sampling_lines import Row


def sampling_grid(summary: Summary) -> Grid | None:
    """One row per cell and sampler, means over seeds; None where the study asks for none."""
    result: dict[str, Any] = summary.get("sampling") or {}
    if not result:
        return None
    rows, words = result["rows"], words_of(summary)
    usual = measure(words.primary, summary)
    scored = [head for one in words.sampled for head in (one.head, "+-")]
    heads = [
        "model", "sampler", *scored, usual.name, "seeds 95 %",
        f"{words.data} 95 %", "draws/unit", "head calls/unit", "FLOPs/choice", "mean level", "fell back %",
    ]  # fmt: skip
    seeds = span((row.get("seeds", 1) for row in rows), "d")
    units = span((row["units"] for row in rows), ",d")
    notes = [
        f"{units} held-out units per line and seed, seeds: {seeds}; +- is one standard error, over seeds "
        f"where there are two or more, else over rows. {usual.name}, seeds 95 %: had other seeds been "
        "drawn, - "
        f"where all stand at 0, the least there is; {words.data} 95 %: had other {words.group}s been "
        f"held out, - where fewer than {FEWEST_GROUPS} of them were scored. FLOPs/choice: of the head and of "
        "all values decoded, without the backbone."
    ]
    notes += _left_out(result["left_out"])
    named = " and ".join(one.called or one.name for one in words.sampled)
    title = f"Samplers: {named}, geometric means over {words.first}" if named else "Samplers"
    return Grid(title, heads, [_texts(row, words, usual) for row in rows], 2, notes)


def same_point_grid(summary: Summary) -> Grid | None:
    """What stands at the same collision for fewer FLOPs; None where the study has no line of temperatures."""
    known: list[Row] = (summary.get("sampling") or {}).get("same_point") or []
    if not known:
        return None
    words = words_of(summary)
    right, agree = (one.called or one.name for one in words.sampled)
    heads = [
        "model", "in place of", "at T", f"{agree} %", "T", "T 95 %", f"{right} +", "+ 95 %", "FLOPs/choice",
        "times fewer", "fewer 95 %", "seeds",
    ]  # fmt: skip
    rows = [
        [
            one["cell"], one["instead"], one["label"], f"{one['agree']:.2f}",
            *_ranged(one["temperature"], 3), *_ranged(one["right_more"], 2), _flops(one["flops"]),
            *_ranged(one["fewer"], 1), str(one["seeds"]),
        ]
        for one in known
    ]  # fmt: skip
    notes = [
        f"T: the nominal temperature at which the sampler under 'at T' has the {agree} of the one that it "
        f"stands in place of, read between the settings of the table above; {right} +: its {right} there, "
        "less that of the other, in percent; times fewer: FLOPs of a choice, the other's over its own. "
        "95 %: over seeds, of one seed by its standard errors (- where settings don't go so far). "
        "In place of 'rejection' T is a calibration: it stands for the exact temperature."
    ]
    return Grid(f"Samplers at the same {agree}", heads, rows, 3, notes)


def _ranged(value: list[float | None], digits: int) -> tuple[str, str]:
    mean, low, high = ("-" if one is None else f"{one:.{digits}f}" for one in value)
    return mean, "-" if low == high == "-" else f"[{low}, {high}]"


def _flops(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _left_out(known: list[dict[str, str]]) -> list[str]:
    """One sentence per cell and reason, however many samplers it holds for."""
    samplers: dict[tuple[str, str], list[str]] = {}
    for one in known:
        samplers.setdefault((one["cell"], one["why"].rstrip(".")), []).append(one["sampler"])
    return [f"Left out for {cell}: {', '.join(names)}: {why}." for (cell, why), names in samplers.items()]


def _texts(row: Row, words: KindWords, usual: Shown) -> list[str]:
    calls, name = row["network_calls_per_unit"], words.primary
    scored = [_or_dash(row[one], of) for of in words.sampled for one in (of.name, f"{of.name}_se")]
    return [
        row["cell"],
        row["sampler"],
        *scored,
        usual.text(row[name]),
        *(usual.interval(row[f"{name}_{of}_low"], row[f"{name}_{of}_high"]) for of in ("seed", "text")),
        f"{row['draws_per_unit']:.1f}",
        "adaptive" if calls is None else f"{calls:.1f}",
        _flops(row.get("flops_per_unit")),
        _or_dash(row["mean_level"]),
        f"{100 * row['fallback_share']:.1f}",
    ]


def _or_dash(value: float | None, words: ColumnWords | None = None) -> str:
    """Two digits, or as many as a column has."""
    factor, digits = (1.0, 2) if words is None else (words.factor, words.digits)
    return "-" if value is None else f"{factor * value:.{digits}f}"
