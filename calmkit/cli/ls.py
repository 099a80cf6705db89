"""`calmkit ls`: recipes, parts, plugins and runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final

import click

from calmkit.cli.completion import kinds, offered
from calmkit.cli.table import show_table


@final
class Listed(click.ParamType):
    """What can be listed. The kinds of parts are the registry's, which is asked when a word is there."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, if it is one of them; anything else is refused as wrong usage."""
        if value not in listed():
            self.fail(f"'{value}' is none of {', '.join(listed())}.", param, ctx)
        return str(value)


def listed() -> tuple[str, ...]:
    """All that can be listed."""
    from calmkit.registry import KINDS

    return ("recipes", *KINDS, "plugins", "runs")


@click.argument("kind", type=Listed(), required=False, shell_complete=offered(kinds))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def ls(kind: str | None, as_json: bool) -> None:
    """List recipes, parts, plugins and runs.

    KIND is recipes, a kind of part such as heads, plugins or runs; without it all are listed, a line each,
    with their kind.
    """
    from calmkit.registry import make_manager

    manager = None if kind in ("recipes", "runs") else make_manager()
    found = {each: _rows(each, manager) for each in ([kind] if kind else listed())}
    if as_json:
        click.echo(json.dumps(found[kind] if kind else found, indent=2, ensure_ascii=False))
    elif kind:
        columns = list(found[kind][0]) if found[kind] else ["name"]
        show_table(columns, [[row[column] for column in columns] for row in found[kind]])
    else:
        rows = [[each, row["name"], _summary(each, row)] for each, rows in found.items() for row in rows]
        show_table(["kind", "name", "summary"], rows)
    if manager and kind != "plugins":
        for rejected in manager.rejected:
            click.echo(f"left out: {rejected.plugin}: {rejected.reason}", err=True)


def _rows(kind: str, manager: object) -> list[dict[str, str]]:
    from calmkit.cli.parts import part_rows, plugin_rows
    from calmkit.registry import Manager

    if kind == "recipes":
        return _recipes()
    if kind == "runs":
        return _runs(Path("runs"))
    assert isinstance(manager, Manager)
    return plugin_rows(manager) if kind == "plugins" else part_rows(manager, kind)


def _summary(kind: str, row: dict[str, str]) -> str:
    if kind == "plugins":
        return f"{row['state']}: {row['parts or reason']}"
    return row.get("summary") or row.get("description", "")


def _recipes() -> list[dict[str, str]]:
    from calmkit.recipe.load import shipped_files

    return [
        {"name": name, "description": _said(file)["description"]} for name, file in shipped_files().items()
    ]


def _runs(folder: Path) -> list[dict[str, str]]:
    roots = sorted(file.parent for file in folder.rglob("resolved.yaml"))
    return [
        {"name": root.as_posix(), "recipe": said["name"], "description": said["description"]}
        for root in roots
        for said in [_said(root / "resolved.yaml")]
    ]


def _said(file: Path) -> dict[str, str]:
    """Name and description as a file states them, without reading the rest."""
    from calmkit.recipe.errors import RecipeError
    from calmkit.recipe.tree import Keys, Scalar, parse

    try:
        tree = parse(file.read_text(encoding="utf-8"), str(file))
    except (RecipeError, OSError, UnicodeDecodeError) as error:
        return {"name": "", "description": f"cannot be read: {error}"}
    nodes = tree.nodes if isinstance(tree, Keys) else {}
    said = {key: nodes.get(key) for key in ("name", "description")}
    return {key: node.text if isinstance(node, Scalar) else "" for key, node in said.items()}
