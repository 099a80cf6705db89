"""`calmkit show`: a recipe with every default in place, or the settings of a part."""

from __future__ import annotations

from pathlib import Path

import click

from calmkit.cli.ls import PART_KINDS
from calmkit.cli.table import show_table


@click.argument("target")
@click.argument("overrides", nargs=-1)
def show(target: str, overrides: tuple[str, ...]) -> None:
    """Show a recipe as YAML, the recipe of a run folder, or a part such as heads/energy.

    OVERRIDES such as head=flow or head.num_steps=8 are laid over a recipe.
    """
    from calmkit.registry import make_manager

    kind, _, name = target.partition("/")
    manager = make_manager()
    if kind in PART_KINDS and name:
        from calmkit.cli.parts import documentation, setting_rows

        if overrides:
            raise click.UsageError(f"a part takes no overrides, got {' '.join(overrides)}")
        part = manager.find(kind, name)
        click.echo(f"{target}, from {part.plugin}\n\n{documentation(part)}\n")
        rows = setting_rows(part)
        if rows:
            show_table(list(rows[0]), [list(row.values()) for row in rows])
        return
    resolved = Path(target) / "resolved.yaml"
    target = str(resolved) if resolved.is_file() else target
    from calmkit.cli.reading import count_parameters, read
    from calmkit.recipe.assemble import validate
    from calmkit.recipe.dump import to_yaml

    recipe = read(target, overrides, manager)
    click.echo(to_yaml(recipe), nl=False)
    for line in count_parameters(validate(recipe, manager)):
        click.echo(f"# {line}")
