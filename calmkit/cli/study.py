"""`calmkit study run`: many runs, one table."""

from __future__ import annotations

from pathlib import Path

import click


@click.argument("study")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; default runs/studies/<name>/<time>.")
def run(study: str, out: Path | None) -> None:
    """Run a study, such as quickstart or a .yaml file: all its cells, then a table and a report."""
    from calmkit.studies.run import run_study

    run_study(study, out=out, say=click.echo)
