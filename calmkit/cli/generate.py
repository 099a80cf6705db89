"""`calmkit generate`: what a trained run makes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import click

from calmkit.cli.completion import complete_overrides, offered, runs
from calmkit.cli.run_folder import RunFolder, only
from calmkit.cli.shown import Shown

if TYPE_CHECKING:
    from calmkit.interfaces import DataKind, Front, GenerationAsked
    from calmkit.recipe.schema import PartSpec, Recipe
    from calmkit.registry import Manager

SECTIONS = ("sampler", "order")
"""Of a recipe, those that a trained run still takes."""
LARGEST_SEED = 2**63 - 1


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
@click.argument("words", nargs=-1, metavar="[PROMPT | OVERRIDE]...", shell_complete=complete_overrides)
@click.option(
    "-p",
    "--prompt",
    "more_prompts",
    multiple=True,
    help="To go on from, such as text, whatever it looks like; again for another one.",
)
@click.option(
    "--prompts",
    "prompt_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='One prompt a line; of a .jsonl the "prompt" or "text" of each object.',
)
@click.option("-i", "--interactive", is_flag=True, help="Ask for prompts, one after the other.")
@click.option(
    "--condition",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of what is drawn, such as label=3; again for another name.",
)
@click.option("-n", "--num", type=click.IntRange(1), help="How many, such as images; of each prompt.")
@click.option("--batch-size", type=click.IntRange(1), help="How many are drawn together.")
@click.option("--out", type=click.Path(path_type=Path), help="A file to write, such as grid.png.")
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    default=0,
    show_default=True,
    help="Same seed, same result.",
)
@click.option(
    "--length",
    "--max-tokens",
    "max_tokens",
    type=click.IntRange(1),
    help="How long, in tokens of text (default 256) or whatever the data are counted in.",
)
@click.option("--no-stream", is_flag=True, help="Print what is made when it is whole, not as it comes.")
@click.option(
    "--show-chunks",
    "--show-units",
    "show_units",
    is_flag=True,
    help="Show what each step of the model made, such as 'The |cat |sat'.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, and nothing else.")
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
    words: tuple[str, ...],
    more_prompts: tuple[str, ...],
    prompt_file: Path | None,
    interactive: bool,
    condition: tuple[str, ...],
    num: int | None,
    batch_size: int | None,
    out: Path | None,
    seed: int,
    max_tokens: int | None,
    no_stream: bool,
    show_units: bool,
    as_json: bool,
    device: str,
    precision: Literal["auto", "32", "bf16"],
) -> None:
    """Let a run's model go on from prompts, or draw what it makes under a condition.

    Text is printed as it comes, on a terminal with control characters written out; pictures are written
    to --out. PROMPT - is standard input, one prompt a
    line; it is also read where no prompt is given and nobody types. OVERRIDES change the sampler and the
    order: sampler=vote, sampler.temperature=0.5, order.steps=8. Where a sampler takes more than one draw per
    unit, or falls back, stderr says how many draws, at what level of agreement, and how often.
    """
    from calmkit.cli.prompts import sort_words
    from calmkit.interfaces import GenerationAsked
    from calmkit.recipe.parts import kind_of
    from calmkit.registry import make_manager

    texts, overrides = sort_words(words)
    only(SECTIONS, overrides, "; -p takes any text as a prompt")
    asked = GenerationAsked(
        length=max_tokens,
        condition=_conditions(condition),
        num=num,
        out=out,
        seed=seed,
        batch_size=batch_size,
        stream=not no_stream,
        show_units=show_units,
        json=as_json,
    )
    manager = make_manager()
    recipe = _recipe(run, overrides, manager)
    kind = kind_of(recipe, manager)
    given = [*texts, *more_prompts, *([] if prompt_file is None else [str(prompt_file)])]
    if interactive:
        _check_talk(asked, kind, given)
    else:
        asked = replace(asked, prompts=_prompts(texts, more_prompts, prompt_file, kind))
    with _as_usage():
        asked.check(kind.takes, kind.words.data)
    from calmkit.training.run import load_run

    front = load_run(run, manager, overrides, device=device, precision=precision)
    with _as_usage():
        if interactive:
            _talk(asked, kind, front, run, overrides, manager)
        elif as_json:
            _print_records(asked, kind, front, {"run": str(run), **_decided(front, recipe, precision)})
        else:
            Shown().show(lambda note: kind.generate(front, asked, note))


def _recipe(run: Path, overrides: Sequence[str], manager: Manager) -> Recipe:
    from calmkit.cli.reading import read

    # nothing here needs a metric, and its plugin may have gone
    return read(str(run / "resolved.yaml"), [*overrides, "evaluation.metrics=[]"], manager)


def _prompts(
    texts: Sequence[str], options: Sequence[str], file: Path | None, kind: DataKind
) -> tuple[str, ...]:
    """Those that are given; of standard input where none is, and the kind takes some."""
    from calmkit.cli.prompts import STDIN, gather, piped

    if not texts and not options and file is None and "prompt" in kind.takes and piped():
        return gather([STDIN], (), None)
    found = gather(texts, options, file)
    if not found and texts:
        raise click.UsageError("standard input holds no prompt; write one a line, or leave out -")
    return found


def _check_talk(asked: GenerationAsked, kind: DataKind, given: Sequence[str]) -> None:
    from calmkit.cli.prompts import piped

    if "prompt" not in kind.takes:
        raise click.UsageError(f"--interactive asks for prompts, which mean nothing for {kind.words.data}")
    others = {"a prompt": bool(given), "--json": asked.json, "--out": asked.out is not None}
    beside = ", ".join(name for name, there in others.items() if there)
    if beside:
        raise click.UsageError(f"--interactive asks for prompts itself; leave out {beside}")
    if piped():
        raise click.UsageError(
            "--interactive needs a terminal; without it prompts are read from standard input, one a line"
        )


def _talk(
    asked: GenerationAsked,
    kind: DataKind,
    front: Front,
    run: Path,
    overrides: Sequence[str],
    manager: Manager,
) -> None:
    from calmkit.cli.repl import Talk
    from calmkit.recipe.assemble import build_sampler
    from calmkit.recipe.errors import RecipeError
    from calmkit.recipe.fit_rows import drawing_fits

    taken = list(overrides)

    def change(word: str) -> None:
        only(["sampler"], [word])
        recipe = _recipe(run, [*taken, word], manager)
        unfit = [*drawing_fits(recipe, manager, front.model)]
        if unfit:
            raise RecipeError(unfit)
        front.sampler = build_sampler(recipe, manager, front.model.head)
        taken.append(word)

    def answer(asked: GenerationAsked) -> None:
        asked.check(kind.takes, kind.words.data)
        Shown().show(lambda note: kind.generate(front, asked, note))

    Talk(asked, answer, change).run()


def _print_records(asked: GenerationAsked, kind: DataKind, front: Front, settings: dict[str, Any]) -> None:
    for record in kind.records(front, asked, lambda line: click.echo(line, err=True)):
        line = {**record, "settings": {**settings, **record.get("settings", {})}}
        click.echo(json.dumps(line, ensure_ascii=False))


def _decided(front: Front, recipe: Recipe, precision: str) -> dict[str, Any]:
    """What the data know nothing of: where it was drawn, and how units were chosen."""
    parts: dict[str, PartSpec | None] = {"sampler": recipe.sampler, "order": recipe.order}
    shown = {section: {"name": one.name, **one.options} for section, one in parts.items() if one is not None}
    return {"device": str(next(front.model.parameters()).device), "precision": precision, **shown}


@contextmanager
def _as_usage() -> Iterator[None]:
    """What a kind of data refuses is wrong usage."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


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
