"""`calmkit calibrate`: what temperature a sampler's nominal ones really are, on a trained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calmkit.cli.completion import complete_overrides, offered, runs
from calmkit.cli.run_folder import RunFolder, only
from calmkit.cli.table import show_table

if TYPE_CHECKING:
    from calmkit.interfaces import ColumnWords
    from calmkit.studies.calibrate import Calibration

SECTIONS = ("sampler", "evaluation", "data")


@click.argument("run", type=RunFolder(), shell_complete=offered(runs))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--nominal", type=float, multiple=True, metavar="T", help="Of the sampler; may be repeated.")
@click.option("--exact", type=float, multiple=True, metavar="T", help="To compare with; may be repeated.")
@click.option("--units", type=click.IntRange(min=1), default=512, show_default=True, help="Held-out units.")
def calibrate(
    run: Path, overrides: tuple[str, ...], nominal: tuple[float, ...], exact: tuple[float, ...], units: int
) -> None:
    """Tell which real temperature each nominal one of a sampler is.

    OVERRIDES name the sampler where it is not the run's own: sampler=sharpen. Temperatures are equal where
    two choices agree equally often; the exact ones are those of the sampler rejection, at the same units.
    """
    only(SECTIONS, overrides)
    click.echo(f"reading {run}; torch and Lightning take a moment to load", err=True)
    from calmkit.recipe.parts import kind_of
    from calmkit.registry import make_manager
    from calmkit.studies.calibrate import EXACT, NOMINAL
    from calmkit.studies.calibrate import calibrate as measure
    from calmkit.training.progress import Progress
    from calmkit.training.run import NO_METRICS, Run

    manager = make_manager()
    progress = Progress(lambda line: click.echo(line, err=True))
    found = measure(
        run,
        overrides,
        nominal=nominal or NOMINAL,
        exact=exact or EXACT,
        units=units,
        manager=manager,
        progress=progress,
    )
    kind = kind_of(Run(run).recipe(manager, [NO_METRICS]), manager)
    columns, rows, lines = _told(found, kind.words.sampled)
    show_table(columns, rows)
    for line in lines:
        click.echo(line)


def _told(found: Calibration, sampled: Sequence[ColumnWords]) -> tuple[list[str], list[list[str]], list[str]]:
    """Columns and rows of a table, and sentences under it.

    Args:
        found: What was measured.
        sampled: How accuracy and collision are told (`KindWords.sampled`).
    """
    columns = ["nominal T", "real T", "95 %", *(head for one in sampled for head in (one.head, "+-"))]
    rows = [
        [f"{nominal:g}", *_ranged(real), *_scores(row, sampled), _flops(row["flops_per_unit"])]
        for (nominal, row), real in zip(found.rows, found.real, strict=True)
    ]
    lines = [
        f"for real T {exact:g}: nominal T {told} {interval}".rstrip(" -")
        if stands is not None
        else f"for real T {exact:g}: none of these nominal T"
        for exact, stands in found.nominal
        for told, interval in [_ranged(stands)]
    ]
    if found.fell_back > 0:
        lines.append(
            f"rejection met its ceiling on draws in up to {found.fell_back:.1%} of the choices, and was not "
            "exact there"
        )
    return [*columns, "FLOPs/choice"], rows, lines


def _ranged(value: tuple[float, float | None, float | None] | None) -> tuple[str, str]:
    if value is None:
        return "-", "-"
    mean, low, high = ("-" if one is None else f"{one:.3f}" for one in value)
    return mean, "-" if low == high == "-" else f"[{low}, {high}]"


def _scores(row: Mapping[str, Any], sampled: Sequence[ColumnWords]) -> list[str]:
    found = []
    for one in sampled:
        for value in (row[one.name], row.get(f"{one.name}_se")):
            found.append("-" if value is None else f"{one.factor * value:.{one.digits}f}")
    return found


def _flops(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
