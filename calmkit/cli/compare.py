"""`calmkit compare`: trained runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from calmkit.cli.completion import offered, runs

FORMATS = ("text", "md", "latex", "csv")


@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(path_type=Path), shell_complete=offered(runs)
)
@click.option("--baseline", help="Label of a model, or a run of it; default the first run's.")
@click.option("--primary", help="The number that they are ranked by, of `ls metrics`; default brier_lm.")
@click.option("--protocol", help="Of the evaluations that are compared: its name; default what all have.")
@click.option("--any-protocol", is_flag=True, help="Also runs that were not measured alike, marked.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", help="Of the table.")
@click.option("--columns", help="Of one table, such as brier_lm,difference,parameters.")
@click.option("--report", type=click.Path(path_type=Path), help="Write one HTML page of it all here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document with everything.")
def compare(
    runs: tuple[Path, ...],
    baseline: str | None,
    primary: str | None,
    protocol: str | None,
    any_protocol: bool,
    form: str,
    columns: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Set trained runs side by side: run folders, or one folder of a study.

    Runs that differ in nothing but their seed are one model. All are compared by one protocol, the way in
    which they were measured: their own, or one that all were measured by with `calmkit eval`.
    """
    if columns is not None and as_json:
        raise click.UsageError("--columns chooses the columns of a table; --json prints everything.")
    from calmkit.studies.compare import compare as compare_runs

    found = compare_runs(
        runs, primary=primary, baseline=baseline, protocol=protocol, any_protocol=any_protocol
    )
    if report is not None:
        found.report(report)
        click.echo(f"report: {report}", err=True)
    if as_json:
        click.echo(json.dumps(found.results, indent=2))
        return
    told = {"text": found.text, "md": found.markdown, "latex": found.latex, "csv": found.csv}
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    click.echo(told[form](names), nl=False)
