"""`calmkit train`: from a recipe to a run folder."""

from __future__ import annotations

import os
from pathlib import Path

import click

from calmkit.cli.progress import progress_option
from calmkit.training.standing import Standing, StandingFile


@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; default runs/<name>/<time>.")
@progress_option
def train(recipe: str, overrides: tuple[str, ...], out: Path | None, progress: Path | None) -> None:
    """Train a recipe, measure it and keep it in a run folder.

    RECIPE is a name such as tiny/energy or a .yaml file; OVERRIDES such as head=flow or
    stages.lm.max_steps=100 are laid over it.
    """
    standing = StandingFile(progress)
    standing.write(Standing())
    if os.environ.get("LOCAL_RANK", "0") == "0":
        click.echo(f"reading {recipe}; torch and Lightning take a moment to load")
    from calmkit.cli.reading import look_for_files, read
    from calmkit.recipe.assemble import validate
    from calmkit.registry import make_manager

    manager = make_manager()
    loaded = read(recipe, overrides, manager)
    validate(loaded, manager)  # before Lightning, which takes seconds to import
    look_for_files(loaded, manager)
    from calmkit.training.train import train as train_recipe

    train_recipe(loaded, out=out, say=click.echo, manager=manager, standing=standing)
