"""`calmkit lm-eval`: a trained run on tasks of EleutherAI's evaluation harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from calmkit.cli.completion import complete_overrides, offered, runs
from calmkit.cli.generate import Device
from calmkit.cli.run_folder import RunFolder, only
from calmkit.cli.table import show_table


@click.argument("run", type=RunFolder(), shell_complete=offered(runs))
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--tasks", required=True, metavar="NAMES", help="Tasks, with commas between them.")
@click.option(
    "--include-path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of YAML tasks. lm-eval runs the Python that they name: give only what you trust.",
)
@click.option("--limit", type=click.IntRange(1), help="At most so many examples of each task.")
@click.option("--num-fewshot", type=click.IntRange(0), help="Examples before each question.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Texts at once.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same numbers.")
@click.option("--device", type=Device(), default="auto", show_default=True, help="As of `generate`.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def lm_eval(
    run: Path,
    overrides: tuple[str, ...],
    tasks: str,
    include_path: Path | None,
    limit: int | None,
    num_fewshot: int | None,
    batch_size: int,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure a run of text on tasks of lm-eval. Needs the extra `lm-eval`.

    Every model takes tasks of generate_until; those that ask how likely a text is (multiple_choice,
    loglikelihood, loglikelihood_rolling) need a head with a density. OVERRIDES change the sampler, such as
    sampler=vote: it then writes as it is, whatever temperature a task wishes for.
    """
    only(["sampler"], overrides)
    try:
        from calmkit.text.interop.lm_eval import CalmLM
        from calmkit.text.interop.lm_eval_run import evaluate_tasks
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the package '{error.name}' is missing; pip install 'calmkit[lm-eval]' brings lm-eval"
        ) from error
    from calmkit.text.text_likelihood import NoLikelihood

    def note(line: str) -> None:
        click.echo(line, err=True)

    model = CalmLM.of_run(run, overrides, device=device, batch_size=batch_size, seed=seed, note=note)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    settings: dict[str, Any] = {"include_path": include_path, "limit": limit, "num_fewshot": num_fewshot}
    try:
        found = evaluate_tasks(model, names, **settings)
    except NoLikelihood as error:
        raise click.UsageError(f"a task asks how likely a text is. {error}") from error
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        show_table(["task", "measure", "value", "stderr"], _table(found["results"]))
        click.echo(f"likelihood: {found['likelihood']}")


def _table(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """A line for each number; lm-eval names it `measure,filter`."""
    lines = []
    for task, numbers in results.items():
        for name, value in numbers.items():
            measure, comma, of = name.partition(",")
            if comma and not measure.endswith("_stderr"):
                error = numbers.get(f"{measure}_stderr,{of}")
                told = measure if of == "none" else f"{measure} ({of})"
                lines.append([task, told, _number(value), _number(error)])
    return lines


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
