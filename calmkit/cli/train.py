"""`calmkit train`: from a recipe to a run folder."""

from __future__ import annotations

from pathlib import Path

import click


@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; default runs/<name>/<time>.")
def train(recipe: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Train a recipe, measure it and keep it in a run folder.

    RECIPE is a name such as tiny/energy or a .yaml file; OVERRIDES such as head=flow or
    stages.lm.max_steps=100 are laid over it.
    """
    from calmkit.cli.reading import look_for_files, read
    from calmkit.recipe.assemble import validate
    from calmkit.registry import make_manager

    manager = make_manager()
    loaded = read(recipe, overrides, manager)
    validate(loaded, manager)  # before Lightning, which takes seconds to import
    look_for_files(loaded, manager)
    from calmkit.training.train import train as train_recipe

    train_recipe(loaded, out=out, say=click.echo, manager=manager)
