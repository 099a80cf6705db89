"""`calmkit resume-check`: whether a recipe that is stopped and resumed ends as if nobody had stopped it."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import click

from calmkit.cli.table import show_table


@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--steps", type=click.IntRange(min=2), default=12, show_default=True, help="Of each stage.")
@click.option("--at", type=click.IntRange(min=1), help="Stop each stage behind this step; default random.")
@click.option("--seed", type=int, help="Of the random steps; default another one each time.")
@click.pass_context
def resume_check(
    context: click.Context,
    recipe: str,
    overrides: tuple[str, ...],
    steps: int,
    at: int | None,
    seed: int | None,
) -> None:
    """Train a few steps of a recipe twice, once stopped and gone on with, and compare bit for bit.

    Everything happens in a temporary folder. It ends with 1 where weights, losses or samples differ.
    """
    if at is not None and at >= steps:
        raise click.UsageError(f"--at {at} is not below the {steps} steps of a stage; raise --steps.")
    from calmkit.cli.reading import look_for_files, read
    from calmkit.recipe.assemble import validate
    from calmkit.registry import make_manager

    manager = make_manager()
    loaded = read(recipe, overrides, manager)
    validate(loaded, manager)
    look_for_files(loaded, manager)
    from calmkit.training.resume_check import resume_check as check

    seed = random.randrange(10**6) if seed is None else seed
    if at is None:
        click.echo(f"seed {seed} (--seed {seed} stops behind the same steps)")
    with tempfile.TemporaryDirectory(prefix="calmkit-resume-") as folder:
        found = check(loaded, Path(folder), steps=steps, at=at, seed=seed, say=click.echo)
    told = [f"DIFFER: {one.differs}" if one.differs else "equal" for one in found.compared]
    rows = [[one.what, one.holds, words] for one, words in zip(found.compared, told, strict=True)]
    show_table(["", "holds", "undisturbed and resumed"], rows)
    where = " and ".join(f"step {step} of stage {stage}" for stage, step in found.stops.items())
    whole, parts = found.seconds
    verdict = "resume is exact" if found.equal else "RESUME IS NOT EXACT"
    click.echo(f"{verdict}: stopped behind {where}; {whole:.0f} s undisturbed, {parts:.0f} s with the stops")
    context.exit(0 if found.equal else 1)
