"""`calmkit cp`: a shipped recipe as a file of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from calmkit.cli.completion import offered, shipped


@click.argument("recipe", shell_complete=offered(shipped))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--extends", is_flag=True, help="Write a short recipe that extends it, not a copy.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def cp(recipe: str, file: Path, extends: bool, force: bool) -> None:
    """Copy a shipped recipe or study, its comments too, to a file.

    RECIPE is a name such as tiny/energy; FILE ends in .yaml, or is a folder that the copy is put into under
    its own name.
    """
    from calmkit.recipe.copied import child_of, copied
    from calmkit.recipe.shipped import SUFFIXES

    if file.is_dir():
        file = file / f"{recipe.rpartition('/')[2]}.yaml"
    if file.suffix not in SUFFIXES:
        raise click.UsageError(f"a recipe is read from a file that ends in .yaml, and '{file}' does not.")
    text = child_of(recipe, file) if extends else copied(recipe)
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise click.UsageError(f"'{file}' is there; --force writes over it.") from None
    except OSError as error:
        raise click.UsageError(f"'{file}' can't be written: {error.strerror}.") from None
    click.echo(f"{file}: {'extends' if extends else 'a copy of'} {recipe}")
