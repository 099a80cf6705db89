"""`calmkit eval`: the numbers of a trained run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from calmkit.cli.completion import complete_overrides, offered, runs
from calmkit.cli.run_folder import RunFolder, only
from calmkit.cli.table import show_table


@click.argument("run", type=RunFolder(), shell_complete=offered(runs))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def evaluate(run: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measure a run on held-out data.

    OVERRIDES such as evaluation.draws=8 are laid over the run's recipe. What is measured in another way than
    the run measures itself, or on other data, goes to a file of its own in the run folder, named by its
    protocol; evaluation.json stays as it was.
    """
    only(["evaluation", "sampler", "data", "trainer"], overrides)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        click.echo(f"reading {run}; torch and Lightning take a moment to load", err=True)
    from calmkit.cli.reading import is_first_process
    from calmkit.training.evaluate import evaluate as measure
    from calmkit.training.progress import Progress, said_once

    def note(line: str) -> None:
        click.echo(line, err=True)

    scores = measure(run, overrides=overrides, note=note, progress=Progress(said_once(note)))
    if not is_first_process():
        return
    if as_json:
        click.echo(json.dumps(scores, indent=2))
    else:
        show_table(*_table(scores))


BAR = "bar_"
BESIDE = ("low", "high", "se", "floor")
"""What stands beside a number under its name and this word; standard errors are left to `--json`."""


def _table(scores: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A line for each number. Where bars were measured, `bar_<bar>_<number>`, they stand beside the numbers,
    and so do interval and floor.
    """
    own = [name for name in scores if not name.startswith(BAR)]
    bars: dict[str, None] = {}
    for name in scores:
        number = max((n for n in own if name.startswith(BAR) and name.endswith(f"_{n}")), key=len, default="")
        if number:
            bars[name.removeprefix(BAR).removesuffix(f"_{number}")] = None
    if not bars:
        return ["measure", "value"], [[name, _shown(value)] for name, value in scores.items()]

    def cell(name: str) -> str:
        return _shown(scores[name]) if name in scores else ""

    beside = {f"{name}_{word}" for name in own for word in BESIDE}
    return ["measure", "value", "low", "high", "floor", *(f"bar {bar}" for bar in bars)], [
        [
            name,
            *map(cell, (name, f"{name}_low", f"{name}_high", f"{name}_floor")),
            *(cell(f"{BAR}{bar}_{name}") for bar in bars),
        ]
        for name in own
        if name not in beside
    ]


def _shown(value: object) -> str:
    if isinstance(value, dict):  # the protocol
        return str(value["name"])
    return f"{value:.6g}" if isinstance(value, float) else str(value)
