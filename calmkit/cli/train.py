"""`calmkit train`: from a recipe to a run folder, and on from a run folder that stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from calmkit.cli.completion import complete_overrides, offered, recipes_and_runs
from calmkit.cli.progress import progress_option
from calmkit.training.standing import Standing, StandingFile


class _StageStep(click.ParamType):
    """`lm:500`: a stage, and a step of it."""

    name = "STAGE:STEP"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """The two of them."""
        stage, _, step = str(value).partition(":")
        if stage not in ("autoencoder", "lm") or not step.isdigit():
            self.fail(f"{value!r} is no stage and step, such as autoencoder:100 or lm:500", param, ctx)
        return stage, int(step)


@click.argument("recipe", shell_complete=offered(recipes_and_runs))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; default runs/<name>/<time>.")
@click.option("--skip-batch", is_flag=True, help="Of a run that goes on: leave its next batch out.")
@click.option(
    "--lr-scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    help="Of a run that goes on: a factor on the learning rate of the stage it is in.",
)
@click.option("--stop-at", type=_StageStep(), help="Save behind a step, such as lm:500, and stop there.")
@progress_option
def train(
    recipe: str,
    overrides: tuple[str, ...],
    out: Path | None,
    skip_batch: bool,
    lr_scale: float,
    stop_at: tuple[str, int] | None,
    progress: Path | None,
) -> None:
    """Train a recipe, measure it and keep it in a run folder; or go on with a run that stopped.

    RECIPE is a name such as tiny/energy or a .yaml file; OVERRIDES such as head=flow or
    stages.lm.max_steps=100 are laid over it. Where RECIPE is the folder of a run, that run goes on: of its
    settings, those of the trainer, the evaluation, the steps and the batch sizes may change.
    """
    standing = StandingFile(progress)
    standing.write(Standing())
    if os.environ.get("LOCAL_RANK", "0") == "0":
        click.echo(f"reading {recipe}; torch and Lightning take a moment to load")
    from calmkit.cli.reading import look_for_files, read
    from calmkit.recipe.assemble import validate
    from calmkit.registry import make_manager

    manager = make_manager()
    resume = Path(recipe).is_dir()
    if resume and out is not None:
        raise click.UsageError(f"{recipe} is a run, and goes on where it is: leave --out away.")
    if not resume and (skip_batch or lr_scale != 1):
        raise click.UsageError("--skip-batch and --lr-scale are for a run that goes on: name its folder.")
    if resume:
        from calmkit.training.going_on import recipe_to_go_on

        out, loaded = Path(recipe), recipe_to_go_on(Path(recipe), overrides, manager)
    else:
        loaded = read(recipe, overrides, manager)
    validate(loaded, manager)  # before Lightning, which takes seconds to import
    look_for_files(loaded, manager)
    from calmkit.training.resume import Wishes
    from calmkit.training.train import train as train_recipe

    wishes = Wishes(skip_batch, lr_scale, stop_at)
    train_recipe(
        loaded,
        out=out,
        say=click.echo,
        manager=manager,
        standing=standing,
        wishes=wishes,
        resume=resume,
    )
