"""`calmkit export`: a run's model, to be handed on: for calmkit elsewhere, or in the format of other code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from calmkit.cli.completion import offered, runs
from calmkit.cli.run_folder import RunFolder

FORMATS = ("official", "hf")


@click.argument("run", type=RunFolder(), shell_complete=offered(runs))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option("--safetensors", is_flag=True, help="official: tensors as safetensors, no pytorch_model.bin.")
@click.option("--push", metavar="ORG/NAME", help="hf: upload it to the Hugging Face hub.")
@click.option("--private", is_flag=True, help="hf: not for all to see, with --push.")
@click.option("--license", "licence", metavar="ID", help="hf: of the weights, for the card, as apache-2.0.")
def export(
    run: Path,
    folder: Path,
    to: str,
    safetensors: bool,
    push: str | None,
    private: bool,
    licence: str | None,
) -> None:
    """Write a run's model to FOLDER.

    hf: as the Hugging Face hub lays models out, with card, numbers and all that rebuilds it:
    calmkit.load(FOLDER), calmkit generate FOLDER and calmkit eval FOLDER take it, on any machine.
    official: as the official CALM code reads it; what it can't say is refused by name, and what it leaves
    out is said.
    """
    asked = {"--safetensors": (safetensors, "official"), "--push": (push, "hf")}
    asked |= {"--private": (private, "hf"), "--license": (licence, "hf")}
    for option, (given, only) in asked.items():
        if given and to != only:
            raise click.UsageError(f"{option} goes with --to {only}")
    if private and not push:
        raise click.UsageError("--private goes with --push ORG/NAME")
    note = partial(click.echo, err=True)
    if to == "official":
        from calmkit.text.official_run import export_official
        from calmkit.training.run import Run

        export_official(Run(run), folder, safetensors=safetensors, say=click.echo, note=note)
        return
    _share(run, folder, push, private, licence)


def _share(run: Path, folder: Path, repo: str | None, private: bool, licence: str | None) -> None:
    from calmkit.sharing import hub
    from calmkit.sharing.export import export_run
    from calmkit.training.run import Run

    if repo is not None:
        if not hub.is_id(repo):
            raise click.UsageError(f"--push is ORG/NAME, such as me/my-model; got '{repo}'")
        hub.client()  # or says so before anything is written
    export_run(Run(run), folder, repo=repo, licence=licence, say=click.echo)
    if repo is not None:
        hub.push(folder, repo, private=private, say=click.echo)
