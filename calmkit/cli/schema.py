"""`calmkit schema`: recipes as a JSON Schema, for editors."""

from __future__ import annotations

import json

import click


def schema() -> None:
    """Print the JSON Schema of recipes, with the settings of every part that is installed, for editors."""
    from calmkit.recipe.json_schema import json_schema
    from calmkit.registry import make_manager

    click.echo(json.dumps(json_schema(make_manager()), indent=2, ensure_ascii=False))
