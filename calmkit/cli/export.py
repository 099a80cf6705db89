"""`calmkit export`: a run's model in the format of other code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from calmkit.cli.completion import offered, runs
from calmkit.cli.run_folder import RunFolder


@click.argument("run", type=RunFolder(), shell_complete=offered(runs))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", type=click.Choice(["official"]), required=True, help="The format.")
@click.option("--safetensors", is_flag=True, help="Tensors as safetensors, not as pytorch_model.bin.")
def export(run: Path, folder: Path, to: str, safetensors: bool) -> None:
    """Write a run's model to FOLDER as the official CALM code reads it.

    What the format can't say is refused by name; what it leaves out is said.
    """
    del to  # the one format there is
    from calmkit.text.official_run import export_official
    from calmkit.training.run import Run

    note = partial(click.echo, err=True)
    export_official(Run(run), folder, safetensors=safetensors, say=click.echo, note=note)
