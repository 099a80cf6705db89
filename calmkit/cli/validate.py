"""`calmkit validate`: refuse recipes before anything is read or trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calmkit.cli.completion import offered, recipes

if TYPE_CHECKING:
    from calmkit.registry import Manager


@click.argument(
    "words", nargs=-1, required=True, metavar="RECIPE... [OVERRIDES]...", shell_complete=offered(recipes)
)
@click.option(
    "--elsewhere", is_flag=True, help="It will run on another machine: look for nothing on this one."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def validate(words: tuple[str, ...], elsewhere: bool, as_json: bool) -> None:
    """Check recipes whole, and that this machine has what they need; nothing is read or trained.

    RECIPE is a name such as tiny/energy, a .yaml file, or a run folder, of which every file is compared with
    its checksum; OVERRIDES such as head=flow are laid over each. With
    --elsewhere their libraries, their devices, the files of their corpora and the runs they begin with are
    not looked for. The exit code is 2 where one is wrong.
    """
    recipes, overrides = _sorted(words)
    if not recipes:
        raise click.UsageError(f"no recipe among {' '.join(words)}")
    from calmkit.interfaces import DataError
    from calmkit.recipe.errors import RecipeError
    from calmkit.registry import make_manager

    manager, found = make_manager(), list[dict[str, Any]]()
    for recipe in recipes:
        try:
            counts = _checked(recipe, overrides, manager, elsewhere)
            found.append({"recipe": recipe, "ok": True, **counts})
        except (RecipeError, DataError) as error:
            if len(recipes) == 1 and not as_json:
                raise
            found.append({"recipe": recipe, "ok": False, "problems": _problems(error)})
            if not as_json:
                click.echo(f"{recipe}: wrong\n{error}", err=True)
            continue
        if not as_json:
            _say(found[-1])
    ok = all(one["ok"] for one in found)
    if as_json:
        click.echo(json.dumps({"ok": ok, "recipes": found}, indent=2, ensure_ascii=False))
    if not ok:
        click.get_current_context().exit(2)


def _sorted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Recipes and overrides: a word with = is an override, unless a file has that very name."""
    overrides = [word for word in words if "=" in word and not Path(word).is_file()]
    return [word for word in words if word not in overrides], overrides


def _checked(recipe: str, overrides: Sequence[str], manager: Manager, elsewhere: bool) -> dict[str, Any]:
    """Its name and its parameters by part.

    Raises:
        RecipeError: With all that is wrong.
        DataError: A run folder was cut or altered.
    """
    from calmkit.cli.reading import look_for_files, parameter_counts, read
    from calmkit.cli.run_folder import check_run
    from calmkit.recipe.assemble import validate as check
    from calmkit.recipe.resolved import RESOLVED

    folder = Path(recipe)
    if (folder / RESOLVED).is_file():
        check_run(folder)
        recipe, elsewhere = str(folder / RESOLVED), True
    loaded = read(recipe, overrides, manager)
    model = check(loaded, manager, elsewhere=elsewhere)
    if not elsewhere:
        from calmkit.training.environment import check_environment

        look_for_files(loaded, manager)
        check_environment(loaded, manager, model)
    return {"name": loaded.name, "parameters": parameter_counts(model)}


def _say(found: dict[str, Any]) -> None:
    click.echo(f"{found['name']}: ok")
    for part, count in found["parameters"].items():
        click.echo(f"  {part}: {count:,} parameters")


def _problems(error: Exception) -> list[dict[str, Any]]:
    """Code, message, place, key and help of each; what is no recipe's fault has no code."""
    from calmkit.recipe.errors import RecipeError

    if not isinstance(error, RecipeError):
        return [{"code": None, "message": str(error)}]
    return [
        {
            "code": one.code,
            "message": one.message,
            "place": None if one.mark is None else one.mark.place,
            "line": (one.mark.line or None) if one.mark else None,
            "column": (one.mark.column or None) if one.mark else None,
            "key": one.key or None,
            "help": one.help or None,
        }
        for one in error.problems
    ]
