"""`calmkit generate`: what a trained run makes."""

from __future__ import annotations

import sys
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
    help="Of what is drawn, such as label=3; again for another name.",
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

    Text is printed as it comes, on a terminal with control characters written out; pictures are written to
    --out. OVERRIDES change the sampler and the order:
    sampler=vote, sampler.temperature=0.5, order.steps=8. Where a sampler takes more than one draw per unit,
    or falls back, stderr says how many draws, at what level of agreement, and how often.
    """
    only(["sampler", "order"], overrides)
    from calmkit.cli.reading import read
    from calmkit.interfaces import GenerationAsked
    from calmkit.printed import printed
    from calmkit.recipe.parts import kind_of
    from calmkit.registry import make_manager

    conditions = _conditions(condition)
    manager = make_manager()
    words = [*overrides, "evaluation.metrics=[]"]  # nothing here needs a metric, and its plugin may have gone
    recipe = read(str(run / "resolved.yaml"), words, manager)
    from calmkit.training.run import load_run

    front = load_run(run, manager, overrides, device=device, precision=precision)
    asked = GenerationAsked(prompt, max_tokens, conditions, num, out, seed)
    try:
        for piece in kind_of(recipe, manager).generate(front, asked, lambda line: click.echo(line, err=True)):
            click.echo(printed(piece) if sys.stdout.isatty() else piece, nl=False, color=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo()


def _conditions(words: tuple[str, ...]) -> dict[str, str]:
    """Name -> value, each name once."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise click.UsageError(f"--condition is NAME=VALUE, such as label=3; got '{word}'")
        if name in found:
            raise click.UsageError(
                f"--condition names '{name}' twice, {found[name]} and {value}; one run of generate has one"
            )
        found[name] = value
    return found
