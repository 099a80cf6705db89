"""`calmkit study`: many runs, one table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from calmkit.cli.completion import complete_overrides, offered, studies
from calmkit.cli.progress import progress_option
from calmkit.cli.table import show_table
from calmkit.training.standing import Standing, StandingFile


def _out(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "Folder for everything; default runs/studies/<name>, with the runs in runs/cells."
    return click.option("--out", type=click.Path(path_type=Path), help=text)(command)


def _to_standard_error(line: str) -> None:
    click.echo(line, err=True)


def _reading(what: str | Path, err: bool = False) -> None:
    """The first line, before anything slow is loaded."""
    click.echo(f"reading {what}; torch and Lightning take a moment to load", err=err)


@click.argument("study", shell_complete=offered(studies))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@_out
def plan(study: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Check every cell of a study and this machine, and say what it would take; nothing is trained.

    A step of each open cell is timed, to say how long it would take on this machine.
    """
    _reading(study, err=True)
    from calmkit.cli.study_plan import show_plan
    from calmkit.registry import make_manager
    from calmkit.studies.environment import check_cells, check_study
    from calmkit.studies.plan import places, plan_study
    from calmkit.studies.schema import load_study
    from calmkit.training.progress import Progress

    manager, progress = make_manager(), Progress(_to_standard_error)
    loaded = load_study(study, manager, overrides)
    check = partial(check_cells, manager=manager)
    planned = plan_study(loaded, manager, places(loaded, out), progress=progress, check=check)
    check_study(planned, manager)
    show_plan(planned, manager, progress)


@click.argument("study", shell_complete=offered(studies))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@_out
def run(study: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Run a study, such as quickstart or a .yaml file: all its cells, then tables and a report.

    OVERRIDES such as data=text or data.train=a.txt are laid over the base recipe of every cell;
    launcher=slurm or launcher.workers=4 say how its processes are started. What is done is not done again.
    """
    _reading(study)
    from calmkit.studies.display import display_here
    from calmkit.studies.run import run_study

    run_study(study, overrides=overrides, out=out, display=display_here(click.echo))


@click.argument("folder", type=click.Path(path_type=Path))
def status(folder: Path) -> None:
    """Say of every trial of a study whether it is done, running, failed or open."""
    from calmkit.registry import make_manager
    from calmkit.studies.snapshot import planned_in
    from calmkit.studies.status import status_rows, status_summary

    planned = planned_in(folder, make_manager())
    show_table(["trial", "state", "step", "what"], status_rows(planned))
    click.echo(status_summary(planned))


@click.argument("folder", type=click.Path(path_type=Path))
def resume(folder: Path) -> None:
    """Go on with a study as it was begun, from its folder."""
    _reading(folder)
    from calmkit.studies.display import display_here
    from calmkit.studies.run import resume_study

    resume_study(folder, display=display_here(click.echo))


@click.argument("folder", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Write the tables and the report of a study anew from what is done."""
    _reading(folder)
    from calmkit.studies.run import report_study

    report_study(folder, say=click.echo)


@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("key")
@progress_option
def measure(folder: Path, key: str, progress: Path | None) -> None:
    """Measure one trial as its study asks: what a study's own processes call."""
    standing = StandingFile(progress)
    standing.write(Standing())
    from calmkit.registry import make_manager
    from calmkit.studies.ask import measure_trial
    from calmkit.studies.snapshot import planned_in

    manager = make_manager()
    click.echo(str(measure_trial(planned_in(folder, manager), key, manager, click.echo, standing)))
