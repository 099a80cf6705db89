"""`calmkit validate`: refuse a recipe before anything is read or trained."""

from __future__ import annotations

import click


@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option(
    "--elsewhere", is_flag=True, help="It will run on another machine: look for nothing on this one."
)
def validate(recipe: str, overrides: tuple[str, ...], elsewhere: bool) -> None:
    """Check a recipe whole, and that this machine has what it needs; nothing is read or trained.

    RECIPE is a name such as tiny/energy or a .yaml file; OVERRIDES such as head=flow are laid over it. With
    --elsewhere its libraries, its devices, the files of its corpus and the runs it begins with are not
    looked for.
    """
    from calmkit.cli.reading import count_parameters, look_for_files, read
    from calmkit.recipe.assemble import validate as check
    from calmkit.registry import make_manager

    manager = make_manager()
    loaded = read(recipe, overrides, manager)
    model = check(loaded, manager, elsewhere=elsewhere)
    if not elsewhere:
        from calmkit.training.environment import check_environment

        look_for_files(loaded, manager)
        check_environment(loaded, manager, model)
    click.echo(f"{loaded.name}: ok")
    for line in count_parameters(model):
        click.echo(f"  {line}")
