"""`calmkit validate`: refuse a recipe before anything is read or trained."""

from __future__ import annotations

import click


@click.argument("recipe")
@click.argument("overrides", nargs=-1)
def validate(recipe: str, overrides: tuple[str, ...]) -> None:
    """Check a recipe whole; nothing is read or trained.

    RECIPE is a name such as tiny/energy or a .yaml file; OVERRIDES such as head=flow are laid over it.
    """
    from calmkit.cli.reading import count_parameters, look_for_files, read
    from calmkit.recipe.assemble import validate as check
    from calmkit.registry import make_manager

    manager = make_manager()
    loaded = read(recipe, overrides, manager)
    model = check(loaded, manager)
    look_for_files(loaded, manager)
    click.echo(f"{loaded.name}: ok")
    for line in count_parameters(model):
        click.echo(f"  {line}")
