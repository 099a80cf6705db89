"""Tables: drawn in a terminal, tab-separated elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from calmkit.printed import printed


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns. Outside a terminal: one line each, tabs between, nothing wrapped."""
    columns, rows = [*map(printed, columns)], [[*map(printed, row)] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
