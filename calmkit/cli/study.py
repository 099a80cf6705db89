"""`calmkit study run`: many runs, one table."""

from __future__ import annotations

from pathlib import Path

import click


@click.argument("study")
@click.argument("overrides", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="Folder; default runs/studies/<name>/<time>.")
def run(study: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Run a study, such as quickstart or a .yaml file: all its cells, then a table and a report.

    OVERRIDES such as data=text or data.train=a.txt are laid over the base recipe of every cell.
    """
    from calmkit.studies.run import run_study

    run_study(study, overrides=overrides, out=out, say=click.echo)
