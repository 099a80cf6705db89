"""`calmkit reproduce`: train again from a run's own recipe, and compare what comes out."""

from __future__ import annotations

import os
from pathlib import Path

import click

from calmkit.cli.completion import offered, runs
from calmkit.cli.run_folder import RunFolder
from calmkit.cli.table import show_table


@click.argument("run", type=RunFolder(), shell_complete=offered(runs))
@click.option("--out", type=click.Path(path_type=Path), help="The new run's folder; default as for train.")
def reproduce(run: Path, out: Path | None) -> None:
    """Train a run's recipe again into a new folder, and compare the two to the last bit.

    What differs in versions, plugins, commits, data and machine is told first. Then metrics.csv, the weights
    and evaluation.json are compared. The exit code is 1 where they are not the same; numbers that measure
    time are left out.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        click.echo(f"reading {run}; torch and Lightning take a moment to load", err=True)
    from calmkit.training.reproduce import reproduce as reproduce_run

    found = reproduce_run(run, out=out, say=click.echo)
    if found is None:  # a process of another rank than 0
        return
    columns = ["what", "compared", "the same", "largest difference", "at"]
    click.echo()
    show_table(columns, [outcome.row() for outcome in found.outcomes])
    click.echo()
    click.echo(found.verdict)
    if not found.same:
        click.get_current_context().exit(1)
