"""`calmkit explain`: what the code of an error means, an example that gives it, and what would do."""

from __future__ import annotations

import textwrap

import click

from calmkit.cli.completion import complete_codes
from calmkit.cli.table import show_table


@click.argument("code", required=False, shell_complete=complete_codes)
def explain(code: str | None) -> None:
    """Explain the code of an error such as CK130; without CODE all are listed."""
    from calmkit.recipe.codes import CODES

    if code is None:
        show_table(["code", "meaning"], [[name, one.meaning] for name, one in CODES.items()])
        return
    name = code.upper() if code.upper().startswith("CK") else f"CK{code}"
    if name not in CODES:
        raise click.UsageError(f"no error has the code '{code}'; there are: {', '.join(CODES)}.")
    found = CODES[name]
    cure = textwrap.fill(found.cure, 100, initial_indent="cure: ", subsequent_indent="      ")
    example = textwrap.indent(found.example.strip(), "  ")
    command = " ".join(["calmkit", *found.command])
    click.echo(f"{name}: {found.meaning}\n{cure}\n\nexample.yaml:\n{example}\n\nrefused by: {command}")
    if found.note:
        click.echo(f"({found.note})")
