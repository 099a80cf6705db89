"""The table of a study's power laws: exponents, floor and parts of every series, with their intervals, and
over which sizes and lengths they were found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from calmkit.report.kind import words_of
from calmkit.report.reading import Summary
from calmkit.report.render import Grid, as_csv

EDGE = 0.05  # of the replicates, from which on it is said that they end at an edge
NUMBERS = (("floor", "E"), ("by_size", "A"), ("by_length", "B"))


def fit_grid(summary: Summary) -> Grid | None:
    """One row per fit and series; None where the study fits nothing."""
    fits = summary.get("fit")
    if not fits:
        return None
    heads = ["loss", "series", "runs", "alpha", "beta", "E", "A", "B", "misses %"]
    rows = []
    for fit in fits:
        if "why" in fit:
            rows.append([fit["loss"], fit["group"] or "all", str(fit["runs"]), *["-"] * 6])
        for one in fit.get("series", ()):
            numbers = [fit["alpha"], fit["beta"], *(one[name] for name, _ in NUMBERS)]
            told = [_told(number) for number in numbers]
            misses = f"{100 * one['misses']:.2f}"
            rows.append([fit["loss"], one["label"] or "all", str(len(one["points"])), *told, misses])
    return Grid("Loss against size and length", heads, rows, 2, list(_notes(summary, fits)))


def fit_csv(summary: Summary) -> str:
    """Every number of the table, unrounded, one line per fit and series."""
    names = ("alpha", "beta", *(name for name, _ in NUMBERS))
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    heads = [
        "y",
        "loss",
        "group",
        "series",
        "runs",
        "size_centre",
        "length_centre",
        *ends,
        "misses",
        "at_edge",
    ]
    rows = []
    for fit in summary.get("fit", ()):
        for one in fit.get("series", ()):
            numbers = {"alpha": fit["alpha"], "beta": fit["beta"], **one}
            known = [numbers[name][end] for name in names for end in ("value", "low", "high")]
            head = [fit["y"], fit["loss"], fit["group"], one["label"], len(one["points"])]
            centre = [fit["size_centre"], fit["length_centre"]]
            rows.append([*head, *centre, *known, one["misses"], fit["at_edge"]])
    return as_csv(heads, rows)


def _told(number: Mapping[str, float]) -> str:
    return f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def _notes(summary: Summary, fits: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    element = words_of(summary).element
    yield (
        f"loss = E + A (N/N0)^-alpha + B (D/D0)^-beta. N: parameters of stage 2, frozen ones too; D: "
        f"{element}s that it read, repeats counted; N0, D0: means of their logarithms over the runs of a fit,"
        " so A and B are what size and training would still take away there. Series of one fit share alpha"
        " and beta. Misses: median distance of a run from the law."
    )
    known = [fit for fit in fits if "why" not in fit]
    if known:
        yield (
            f"In brackets: 95 % by percentiles of {known[0]['replicates']} bootstrap replicates over "
            f"runs, seed {known[0]['bootstrap_seed']}: errors drawn from all runs of a fit, as if equally"
            " wide everywhere."
        )
        yield _range(known, element)
    yield (
        "Every point is a finished run with a schedule of its own; points on the way are not used, for a"
        " model in mid-schedule is not what a shorter training would have made."
    )
    for fit in fits:
        who = f"{fit['loss']}{', ' + fit['group'] if fit['group'] else ''}"
        if "why" in fit:
            yield f"{who}: not fitted: {fit['why']}."
        elif fit["at_edge"] > EDGE:
            yield (
                f"{who}: in {100 * fit['at_edge']:.0f} % of the replicates an exponent or a part ends at "
                "an edge of what is allowed: these runs leave it open."
            )
        if fit["left_out"]:
            yield (
                f"{who}: left out, as their number is unknown or stands at an end of its range: "
                f"{'; '.join(fit['left_out'])}. What is left is the better ones."
            )


def _range(fits: Iterable[Mapping[str, Any]], element: str) -> str:
    points = [point for fit in fits for one in fit["series"] for point in one["points"]]
    sizes, lengths = ({point[name] for point in points} for name in ("size", "length"))
    return (
        f"Range: N from {min(sizes):,.0f} to {max(sizes):,.0f} parameters, D from {min(lengths):,.0f} to "
        f"{max(lengths):,.0f} {element}s. What the law says outside was not measured."
    )
