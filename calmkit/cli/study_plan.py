"""What `calmkit study plan` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calmkit.cli.plan_shown import bytes_in_words
from calmkit.cli.table import show_table

if TYPE_CHECKING:
    from calmkit.registry import Manager
    from calmkit.studies.plan import StudyPlan
    from calmkit.training.progress import Progress

BEFORE = ("cell", "seeds", "done")
BEHIND = ("steps", "parameters", "stage 1 FLOPs", "stage 2 FLOPs")


def show_plan(planned: StudyPlan, manager: Manager, progress: Progress) -> None:
    """Cells with their budgets, what they share, and what it takes in all."""
    from calmkit.cores import usable_cores
    from calmkit.recipe.parts import kind_of
    from calmkit.studies.match import name_of, unit_of
    from calmkit.studies.store import is_encoded, is_trained

    study, where = planned.study, planned.places
    words = kind_of(planned.trials[0].recipe, manager).words
    sized = words.size
    seeds = f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''} each"
    click.echo(
        f"study {study.name}: {len(study.cells)} cells, {seeds}, {len(planned.trials)} trials, "
        f"equal {name_of(study.match.by, words.element)}: {planned.value:.6g} "
        f"{unit_of(study.match.by, words.element)}\n"
    )
    rows = []
    for cell in study.cells:
        trials = [trial for trial in planned.trials if trial.cell == cell.label]
        cost, stage = trials[0].cost, trials[0].recipe.stages.lm
        assert stage is not None
        flops = {name: sum(one.train_flops.values()) for name, one in cost.stages.items()}
        element = cost.inference_flops_per_element
        rows.append(
            [
                cell.label + (" (baseline)" if cell.label == study.baseline else ""),
                str(len(trials)),
                str(sum(is_trained(where.trial(trial.key)) for trial in trials)),
                *([str(trials[0].recipe.autoencoder.options.get(sized.name, ""))] if sized else []),
                f"{stage.max_steps:,}",
                f"{cost.parameters:,}",
                f"{flops['autoencoder']:.3g}" if "autoencoder" in flops else "-",
                f"{flops['lm']:.3g}",
                "not fixed" if element is None else f"{element:.3g}",
            ]
        )
    size = (sized.head,) if sized else ()
    show_table((*BEFORE, *size, *BEHIND, f"FLOPs/{words.element}"), rows)
    done = sum(is_encoded(where.autoencoder(key)) for key in planned.autoencoders)
    click.echo(
        f"\nshared autoencoders: {len(planned.autoencoders)}, {done} of them done; each cell pays for its own"
    )
    opened, left = len(planned.open_trials()), planned.train_flops(only_open=True)
    click.echo(f"open: {opened} trials, {left:.4g} FLOPs of training")
    click.echo(f"disk: at most {bytes_in_words(planned.disk_bytes())} more")
    if opened:
        minutes = planned.seconds(progress) / 60
        click.echo(
            f"time: about {minutes:.1f} minutes of training in one process with one thread, by steps "
            f"of each cell timed here, divided by as many as run at once ({usable_cores()} on these cores). "
            "Start-up and evaluation come on top."
        )
