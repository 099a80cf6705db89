"""`calmkit plan`: what a recipe costs, before anything is read or trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calmkit.cli.completion import complete_overrides, offered, recipes_and_runs
from calmkit.cli.table import show_table

if TYPE_CHECKING:
    from calmkit.recipe.plan import Plan


@click.argument("recipe", shell_complete=offered(recipes_and_runs))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def plan(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Count parameters, FLOPs, memory and disk of a recipe; nothing is read, fetched or trained.

    RECIPE is a name such as paper/calm-m, a .yaml file or a run folder; OVERRIDES such as head=flow are laid
    over it.
    """
    from calmkit.cli.reading import read
    from calmkit.recipe.plan import plan as count
    from calmkit.registry import make_manager

    manager = make_manager()
    resolved = Path(recipe) / "resolved.yaml"
    recipe = str(resolved) if resolved.is_file() else recipe
    counted = count(read(recipe, overrides, manager), manager)
    if as_json:
        click.echo(json.dumps(counted.as_dict(), indent=2))
    else:
        _show(counted)


def _show(plan: Plan) -> None:
    flops = {name: _flops(sum(stage.train_flops.values())) for name, stage in plan.stages.items()}
    whose = "of stage 2, the frozen autoencoder left out" if "lm" in plan.stages else "of the autoencoder"
    click.echo(f"{plan.name}: {plan.parameters:,} parameters {whose}")
    click.echo(f"training: {_flops(plan.train_flops)} FLOPs in all")
    click.echo(
        f"inference: {_flops(plan.inference_flops_per_element)} FLOPs per {plan.element} "
        "with one draw per unit"
    )
    draws = "draws as needed" if plan.draws_per_unit is None else f"{plan.draws_per_unit:g} draws a unit"
    click.echo(
        f"sampler {plan.sampler}: {draws}, {_flops(plan.sampler_flops_per_element)} FLOPs "
        f"per {plan.element}\n"
    )
    columns = [
        "part",
        "parameters",
        *(f"FLOPs of stage {name}" for name in plan.stages),
        f"FLOPs per {plan.element}",
    ]
    show_table(
        columns,
        [
            [
                part,
                f"{parameters:,}",
                *(_flops(stage.train_flops.get(part, 0)) for stage in plan.stages.values()),
                _flops(plan.inference.get(part, 0)),
            ]
            for part, parameters in plan.parameters_by_part.items()
        ],
    )
    click.echo()
    columns = [
        "stage",
        "steps",
        f"{plan.element}s per step",
        f"{plan.element}s",
        "FLOPs",
        "devices",
        "weights",
        "gradients",
    ]
    show_table(
        [*columns, "moments", "checkpoint"],
        [
            [
                name,
                f"{stage.steps:,}",
                f"{stage.elements_per_step:,}",
                f"{stage.elements:.4g}",
                flops[name],
                str(stage.devices),
                *map(bytes_in_words, (stage.weights, stage.gradients, stage.moments, stage.checkpoint)),
            ]
            for name, stage in plan.stages.items()
        ],
    )
    click.echo(
        f"\ndisk: model {bytes_in_words(plan.model_bytes)}, "
        f"run folder at most {bytes_in_words(plan.run_bytes)}"
    )
    if plan.bytes_per_element is not None:
        click.echo(f"disk: tokenised corpus {plan.bytes_per_element} bytes per {plan.element}")
    click.echo(f"not counted: {plan.not_counted}")


def _flops(count: float | int | None) -> str:
    return "not fixed" if count is None else f"{count:.4g}"


def bytes_in_words(count: int) -> str:
    """A size on disk or in memory."""
    units = ("B", "KiB", "MiB", "GiB")
    power = min(len(units) - 1, max(0, count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.4g} {units[power]}"
