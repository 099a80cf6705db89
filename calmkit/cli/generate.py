"""`calmkit generate`: what a trained run makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, final

import click

from calmkit.cli.completion import complete_overrides, offered, runs
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


@click.argument("run", type=RunFolder(), shell_complete=offered(runs))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("-p", "--prompt", help="What to go on from, such as text; default: nothing stands before.")
@click.option(
    "--condition",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of what is drawn, such as label=3; may be repeated.",
)
@click.option("-n", "--num", type=click.IntRange(1), help="How many, such as images.")
@click.option("--out", type=click.Path(path_type=Path), help="A file to write, such as grid.png.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same result.")
@click.option(
    "--length",
    "--max-tokens",
    "max_tokens",
    type=click.IntRange(1),
    help="How long, in tokens of text (default 256) or whatever the data are counted in.",
)
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
    prompt: str | None,
    condition: tuple[str, ...],
    num: int | None,
    out: Path | None,
    seed: int,
    max_tokens: int | None,
    device: str,
    precision: Literal["auto", "32", "bf16"],
) -> None:
    """Let a run's model go on from a prompt, or draw what it makes under a condition.

    Text is printed as it comes; pictures are written to --out. OVERRIDES change the sampler and the order:
    sampler=vote, sampler.temperature=0.5, order.steps=8. Where a sampler takes more than one draw per unit,
    or falls back, stderr says how many draws, at what level of agreement, and how often.
    """
    only(["sampler", "order"], overrides)
    from calmkit.cli.reading import read
    from calmkit.interfaces import GenerationAsked
    from calmkit.recipe.assemble import build_sampler
    from calmkit.recipe.parts import kind_of
    from calmkit.registry import make_manager

    conditions = dict(_pair(one) for one in condition)
    manager = make_manager()
    words = [*overrides, "evaluation.metrics=[]"]  # nothing here needs a metric, and its plugin may have gone
    recipe = read(str(run / "resolved.yaml"), words, manager)
    from calmkit.training.run import load_run

    orders = [word for word in overrides if word.startswith("order")]
    if orders:
        front = load_run(run, manager, orders, device=device, precision=precision)
    else:
        front = load_run(run, device=device, precision=precision)
    sampler = build_sampler(recipe, manager, front.model.head) if overrides else None
    asked = GenerationAsked(prompt, max_tokens, conditions, num, out, seed, sampler)
    try:
        for piece in kind_of(recipe, manager).generate(front, asked, lambda line: click.echo(line, err=True)):
            click.echo(piece, nl=False)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"--condition is NAME=VALUE, such as label=3; got '{text}'")
    return name, value
