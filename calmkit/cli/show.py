"""`calmkit show`: a recipe with every default in place, what a part takes, or the parts of a kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calmkit.cli.completion import complete_overrides, offered, shown
from calmkit.cli.table import show_table

if TYPE_CHECKING:
    from calmkit.registry import Manager, Part


@click.argument("target", shell_complete=offered(shown))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--source", is_flag=True, help="Of a recipe: where each value came from.")
def show(target: str, overrides: tuple[str, ...], source: bool) -> None:
    """Show a recipe as YAML, the recipe of a run folder, a part such as energy, or a kind such as heads.

    A name that parts of several kinds have shows them all; heads/energy is one of them. OVERRIDES such as
    head=flow or head.num_steps=8 are laid over a recipe. With --source each of its values has the file and
    line that states it, the override, or default.
    """
    from calmkit.recipe.load import SUFFIXES, shipped_files
    from calmkit.registry import KINDS, make_manager

    manager = make_manager()
    resolved = Path(target) / "resolved.yaml"
    if target.endswith(SUFFIXES) or resolved.is_file() or target in shipped_files():
        told = _show_origins if source else _show_recipe
        told(str(resolved) if resolved.is_file() else target, overrides, manager)
        return
    if source:
        raise click.UsageError(f"--source is of a recipe, and '{target}' is none")
    kind, slash, name = target.partition("/")
    one_of_a_kind = kind in KINDS and bool(slash) and bool(name)
    parts = [manager.find(kind, name)] if one_of_a_kind else _called(target, manager)
    if overrides and (parts or target in KINDS):
        raise click.UsageError(f"only a recipe takes overrides, got {' '.join(overrides)}")
    if target in KINDS:
        _show_kind(target, manager)
    elif not parts:
        raise click.UsageError(_nothing_called(target, manager))
    for number, part in enumerate(parts):
        click.echo("\n" if number else "", nl=False)
        _show_part(part)


def _called(target: str, manager: Manager) -> list[Part]:
    from calmkit.cli.parts import parts_called

    return parts_called(manager, target)


def _show_recipe(target: str, overrides: Sequence[str], manager: Manager) -> None:
    from calmkit.cli.reading import count_parameters, read
    from calmkit.recipe.assemble import validate
    from calmkit.recipe.dump import as_dict, as_text
    from calmkit.recipe.sections import unread

    recipe = read(target, overrides, manager)
    values = as_dict(recipe)
    for key in unread(recipe.data.part.name, manager):  # it would say something of nothing
        del values["evaluation"][key]
    click.echo(as_text(values), nl=False)
    for line in count_parameters(validate(recipe, manager)):
        click.echo(f"# {line}")


def _show_origins(target: str, overrides: Sequence[str], manager: Manager) -> None:
    from calmkit.cli.reading import read
    from calmkit.recipe.difference import shown as value_shown
    from calmkit.recipe.origins import origins

    found = origins(read(target, overrides, manager))
    show_table(["key", "value", "from"], [[one.key, value_shown(one.value), one.place] for one in found])


def _show_kind(kind: str, manager: Manager) -> None:
    from calmkit.cli.parts import part_rows

    rows = part_rows(manager, kind)
    show_table(list(rows[0]) if rows else ["name", "plugin", "summary"], [list(row.values()) for row in rows])


def _show_part(part: Part) -> None:
    from calmkit.cli.parts import documentation, setting_rows

    click.echo(f"{part.kind}/{part.name}, from {part.plugin}\n\n{documentation(part)}\n")
    rows = setting_rows(part)
    if rows:
        show_table(list(rows[0]), [list(row.values()) for row in rows])


def _nothing_called(target: str, manager: Manager) -> str:
    """The words for a name that nothing has: the nearest, and where each kind of name is listed."""
    from difflib import get_close_matches

    from calmkit.recipe.load import shipped_files
    from calmkit.registry import KINDS

    parts = [(kind, name) for kind in KINDS for name in manager.parts[kind]]
    names = [*shipped_files(), *KINDS, *(name for _, name in parts), *map("/".join, parts)]
    near = get_close_matches(target, dict.fromkeys(names), 3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    file = " A file that is a recipe ends in .yaml." if Path(target).is_file() else ""
    left_out = "".join(f"\n  left out: {r.plugin}: {r.reason}" for r in manager.rejected)
    return (
        f"'{target}' is no recipe, run folder, part or kind of part.{hint}{file} calmkit ls lists them all; "
        f"the kinds are {', '.join(KINDS)}.{left_out}"
    )
