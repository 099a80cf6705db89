"""Tables of `calmkit plan`: what is counted, what a step holds in memory, what was measured, a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from calmkit.cli.table import show_table

if TYPE_CHECKING:
    from calmkit.recipe.plan import Plan
    from calmkit.training.gpus import Verdict
    from calmkit.training.measured_steps import Measured
    from calmkit.training.outlook import Outlook

KINDS = ("weights", "gradients", "moments", "average", "buckets", "gathered", "activations", "working")
NO_PART = "step"


def show_outlook(outlook: Outlook) -> None:
    """All of it, for a person."""
    _show_plan(outlook.plan)
    _show_memory(outlook)
    if outlook.measured is not None:
        _show_measured(outlook, outlook.measured)
    if outlook.verdict is not None:
        _show_verdict(outlook.verdict)
    click.echo(f"\nnot counted: {outlook.plan.not_counted}")


def _show_plan(plan: Plan) -> None:
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


def _show_memory(outlook: Outlook) -> None:
    rules = "CUDA's" if outlook.alone.gpu else "the CPU's"
    shared = f", each of {outlook.world} processes ({outlook.strategy})" if outlook.world > 1 else ""
    click.echo(
        f"\nmemory of a step at its peak, by {rules} rules, {outlook.alone.precision}, not compiled{shared}:"
    )
    there = {kind for memory in outlook.each.values() for (kind, _), size in memory.at_peak.items() if size}
    kinds = [kind for kind in KINDS if kind in there]
    rows = []
    for stage, memory in outlook.each.items():
        parts = dict.fromkeys(part for (_, part), size in memory.at_peak.items() if size)
        for part in sorted(parts, key=lambda part: (not part, part)):
            rows.append([stage, part or NO_PART, *_cells(memory.at_peak, kinds, part)])
        rows.append([stage, f"all, {memory.during}", *_cells(memory.at_peak, kinds, None)])
    show_table(["stage", "part", *kinds, "all"], rows)
    for stage, why in outlook.alone.unknown.items():
        click.echo(f"memory of stage {stage} is not known: it can't be run without numbers ({why})")


def _cells(live: Mapping[tuple[str, str], int], kinds: list[str], part: str | None) -> list[str]:
    """Of one part, or of all."""
    sizes = [sum(size for (k, p), size in live.items() if k == kind and part in (None, p)) for kind in kinds]
    return [bytes_in_words(size) if size else "" for size in (*sizes, sum(sizes))]


def _show_measured(outlook: Outlook, measured: Measured) -> None:
    from calmkit.training.pace import time_in_words

    click.echo(f"\nmeasured: {measured.device}, {measured.precision}, one process, made-up rows")
    rows = []
    for stage, found in measured.stages.items():
        planned = outlook.planned_here(stage)
        rows.append(
            [
                stage,
                f"{found.median:.4g}",
                f"{min(found.seconds):.4g} to {max(found.seconds):.4g}",
                f"{found.steps:,}",
                time_in_words(found.whole[0]),
                bytes_in_words(found.peak),
                "not known" if planned is None else bytes_in_words(planned),
                "" if planned is None else f"{planned / found.peak - 1:+.1%}",
            ]
        )
    columns = ["stage", "seconds per step", "from, to", "steps", "whole stage"]
    show_table([*columns, "measured peak", "planned peak", "off by"], rows)
    whole, least, most = (
        time_in_words(sum(found.whole[i] for found in measured.stages.values())) for i in range(3)
    )
    click.echo(f"whole run: {whole} ({least} to {most}); data, validations and collectives come on top")
    click.echo(f"measured peak: {measured.method}")


def _show_verdict(verdict: Verdict) -> None:
    from calmkit.training.pace import time_in_words

    gpu = verdict.gpu
    click.echo(f"\n{verdict.world} x {gpu.title}: {'fits' if verdict.fits else 'does not fit'}")
    for stage, needed in verdict.needed.items():
        kind, part, size = verdict.largest[stage]
        click.echo(
            f"stage {stage}: {bytes_in_words(needed)} of {bytes_in_words(gpu.available)} "
            f"({gpu.memory} GiB less a tenth); most for {kind}"
            f"{f' of the {part}' if part else ''}, {bytes_in_words(size)}"
        )
        for cure in verdict.cures[stage]:
            click.echo(f"  would help: {cure}")
    if verdict.warning:
        click.echo(f"but {verdict.warning}")
    how = "as measured here" if verdict.measured else "an assumption"
    click.echo(
        f"time: {time_in_words(3600 * sum(verdict.hours.values()))} "
        f"at {verdict.share:.0%} of the peak rate ({how})"
    )


def _flops(count: float | int | None) -> str:
    return "not fixed" if count is None else f"{count:.4g}"


def bytes_in_words(count: int) -> str:
    """A size on disk or in memory."""
    units = ("B", "KiB", "MiB", "GiB")
    power = min(len(units) - 1, max(0, count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.4g} {units[power]}"
