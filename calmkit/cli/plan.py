"""`calmkit plan`: what a recipe costs, before anything is read or trained."""

from __future__ import annotations

import json
from pathlib import Path

import click

from calmkit.cli.completion import complete_overrides, offered, recipes_and_runs


@click.argument("recipe", shell_complete=offered(recipes_and_runs))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option(
    "--device", metavar="NAME", help="Say whether it fits a GPU, such as h100, and how long it takes."
)
@click.option(
    "--world",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that share a step, in place of trainer.devices and num_nodes.",
)
@click.option("--measure", is_flag=True, help="Take a few steps on this machine: their time and memory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def plan(
    recipe: str,
    overrides: tuple[str, ...],
    device: str | None,
    world: int | None,
    measure: bool,
    as_json: bool,
) -> None:
    """Count parameters, FLOPs, memory and disk of a recipe; nothing is read, fetched or trained.

    With --measure, a few steps of each stage are taken on made-up rows. RECIPE is a name such as
    paper/calm-m, a .yaml file or a run folder; OVERRIDES such as head=flow are laid over it.
    """
    from calmkit.cli.plan_shown import show_outlook
    from calmkit.cli.reading import read
    from calmkit.registry import make_manager
    from calmkit.training.gpus import find_gpu
    from calmkit.training.outlook import look_ahead

    try:
        gpu = None if device is None else find_gpu(device)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--device") from error
    manager = make_manager()
    resolved = Path(recipe) / "resolved.yaml"
    recipe = str(resolved) if resolved.is_file() else recipe
    outlook = look_ahead(read(recipe, overrides, manager), manager, gpu=gpu, world=world, measure=measure)
    if as_json:
        click.echo(json.dumps(outlook.as_dict(), indent=2))
    else:
        show_outlook(outlook)
