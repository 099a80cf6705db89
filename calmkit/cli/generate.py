"""`calmkit generate`: text from a trained run, as it comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, final

import click

from calmkit.cli.run_folder import RunFolder, only


@final
class Device(click.ParamType):
    """A device of this machine; anything else is refused as wrong usage before a weight is read."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, if this machine has what it names."""
        from calmkit.training.device import find_device
        from calmkit.training.errors import RunFailed

        try:
            find_device(value)
        except RunFailed as error:
            self.fail(str(error), param, ctx)
        return str(value)


@click.argument("run", type=RunFolder())
@click.argument("overrides", nargs=-1)
@click.option("-p", "--prompt", default="", help="Text to continue; default: a new document.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same text.")
@click.option("--max-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option(
    "--device",
    type=Device(),
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:1, mps and so on; auto: the accelerator there is, else the CPU.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the model's products; auto is 32 on every device.",
)
def generate(
    run: Path,
    overrides: tuple[str, ...],
    prompt: str,
    seed: int,
    max_tokens: int,
    device: str,
    precision: Literal["auto", "32", "bf16"],
) -> None:
    """Continue a prompt with a run's model.

    OVERRIDES change the sampler: sampler=vote, sampler.temperature=0.5. Where it takes more than one draw per
    unit, or falls back, stderr says how many draws, at what level of agreement, and how often.
    """
    only(["sampler"], overrides)
    from calmkit.cli.reading import read
    from calmkit.recipe.assemble import build_sampler
    from calmkit.registry import make_manager

    manager = make_manager()
    words = [*overrides, "evaluation.metrics=[]"]  # no text needs a metric, and its plugin may have gone
    recipe = read(str(run / "resolved.yaml"), words, manager) if overrides else None
    from calmkit.metrics.sampler_use import SamplerUse
    from calmkit.training.run import load_run

    model, use = load_run(run, device=device, precision=precision), SamplerUse()
    sampler = build_sampler(recipe, manager, model.model.head) if recipe else None
    pieces = model.stream(
        prompt,
        max_tokens=max_tokens,
        seed=seed,
        sampler=sampler,
        on_unit=lambda unit: use.add(unit.draws, unit.level),
    )
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()
    if use.draws != use.units or use.fallbacks:
        click.echo(f"sampler: {use.sentence()}", err=True)
