"""`calmkit import official`: a run folder from a checkpoint of the official CALM code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from calmkit.cli.run_folder import only

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
PATH = click.Path(path_type=Path, exists=True)


@click.argument("folder", type=FOLDER)
@click.argument("overrides", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run folder to make.")
@click.option("--tokenizer", type=PATH, help="A tokenizer.json, or its folder; without it text is token ids.")
@click.option("--autoencoder", type=PATH, help="The autoencoder's folder, if it lies elsewhere.")
def official(
    folder: Path, overrides: tuple[str, ...], out: Path, tokenizer: Path | None, autoencoder: Path | None
) -> None:
    """Make a run of an autoencoder, energy, flow or diffusion checkpoint.

    FOLDER holds config.json and pytorch_model.bin or model.safetensors. OVERRIDES such as sampler=vote or
    data.sequence_length=512 are laid over the run's recipe.
    """
    only(["data", "sampler", "evaluation", "stages", "trainer"], overrides)
    from calmkit.text.official_run import import_official

    import_official(
        folder,
        out,
        tokenizer=tokenizer,
        autoencoder=autoencoder,
        overrides=overrides,
        say=click.echo,
        note=partial(click.echo, err=True),
    )
