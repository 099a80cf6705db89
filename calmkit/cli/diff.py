"""`calmkit diff`: what two recipes or runs have otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from calmkit.cli.completion import offered, recipes_and_runs
from calmkit.cli.table import show_table

if TYPE_CHECKING:
    from calmkit.training.difference import Comparison, Side


@click.argument("a", shell_complete=offered(recipes_and_runs))
@click.argument("b", shell_complete=offered(recipes_and_runs))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def diff(a: str, b: str, as_json: bool) -> None:
    """Compare two recipes, two runs, or a recipe and a run.

    A and B are names such as tiny/energy, .yaml files or run folders. Resolved settings are compared: a part
    written short or long, a default stated or left out, are the same. Of two runs also what they were made
    with, and their results.
    """
    from calmkit.registry import make_manager
    from calmkit.training.difference import compare_sides, read_side

    manager = make_manager()
    sides = read_side(a, manager), read_side(b, manager)
    found = compare_sides(*sides)
    if as_json:
        document = {"a": a, "b": b, **found.as_dict()}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    rows = [*_rows(found)]
    if rows:
        show_table(["of", "key", a, b, "difference"], rows)
        click.echo()
    for line in _verdict(found, sides):
        click.echo(line)


def _rows(found: Comparison) -> Iterator[list[str]]:
    from calmkit.recipe.difference import shown

    parts = (("recipe", found.recipe), ("made with", found.made_with), ("results", found.results))
    for of, differences in parts:
        for one in differences:
            yield [of, one.key, shown(one.a), shown(one.b), _change(one.a, one.b)]


def _change(a: object, b: object) -> str:
    """How much more B has, of two numbers; nothing of all else."""
    numbers = [x for x in (a, b) if isinstance(x, int | float) and not isinstance(x, bool)]
    return f"{numbers[1] - numbers[0]:+.4g}" if len(numbers) == 2 else ""


def _verdict(found: Comparison, sides: tuple[Side, Side]) -> Iterator[str]:
    from calmkit.recipe.difference import ASIDE

    settings = sum(one.key not in ASIDE for one in found.recipe)
    yield f"recipe: {_counted(settings, 'setting')}"
    recipes = [*dict.fromkeys(side.name for side in sides if side.run is None)]
    if recipes:
        are = "is no run" if len(recipes) == 1 else "are no runs"
        yield f"made with, results: not compared, {' and '.join(recipes)} {are}"
        return
    yield f"made with: {_counted(len(found.made_with))}"
    yield f"results: {_counted(len(found.results))}"


def _counted(number: int, noun: str = "") -> str:
    if not number:
        return "the same"
    told = f" {noun}" + "s" * (number != 1) if noun else ""
    return f"{number}{told} differ" + "s" * (number == 1)
