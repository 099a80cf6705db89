"""begin: what a training needs before its first step: data, folder, loggers, and what is done already."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calmkit.interfaces import Autoencoder, DataKind, Prepared
from calmkit.recipe.load import to_yaml
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.begun_with import check_same_runs, weights_named
from calmkit.training.fit import Session
from calmkit.training.going_on import go_on
from calmkit.training.legs import note_leg
from calmkit.training.lineage import check_lineage
from calmkit.training.lock import write_lock
from calmkit.training.loggers import close_all, make_loggers
from calmkit.training.metrics_file import METRICS, MetricsFile
from calmkit.training.new_run import new_run, refuse_used, run_folder
from calmkit.training.progress import Progress, Say
from calmkit.training.resume import Wishes, find_resumed
from calmkit.training.run import Run, is_rank_zero
from calmkit.training.run_folder import held
from calmkit.training.stopping import StopRequest
from calmkit.training.trainer import make_trainer


@dataclass(frozen=True)
class Start:
    """How a training was asked for."""

    out: Path | None
    resume: bool
    wishes: Wishes
    request: StopRequest


def begin(
    recipe: Recipe,
    manager: Manager,
    autoencoder: Autoencoder,
    start: Start,
    say: Say,
    progress: Progress,
    until_the_end: ExitStack,
) -> Session:
    """Data, loggers, folder; all that can be refused before the first step is refused here."""
    if start.out is not None and not start.resume:
        refuse_used(start.out)
    make_trainer(recipe)
    kind = kind_of(recipe, manager)
    prepared = kind.prepare(recipe, manager, progress)
    for stage in (recipe.stages.autoencoder, recipe.stages.lm):
        if stage is not None:
            max_rows = recipe.evaluation.max_rows
            prepared.rows(recipe, autoencoder, batch_size=stage.batch_size, max_rows=max_rows)
            if stage.init_from:
                check_lineage(Path(stage.init_from), lineage_of(kind, prepared, autoencoder))
    folder = run_folder(recipe, start.out)
    if is_rank_zero():
        until_the_end.enter_context(held(folder))
    run = Run(folder)
    resumed = find_resumed(run, recipe, start.wishes, say)
    resumed.check_wishes(recipe)
    loggers = make_loggers(recipe, folder, resumed.goes_on, say)
    until_the_end.push(lambda kind, error, trace: close_all(loggers, error))
    if start.resume:
        before = run.recipe(manager)
        check_same_runs(run, recipe, manager)
        go_on(run, recipe, prepared.fingerprint)
    else:
        new_run(recipe, recipe.source.text or to_yaml(recipe), to_yaml(recipe), folder)
    if is_rank_zero() and not run.lock:
        begun_with = weights_named(recipe, manager)
        write_lock(run, recipe, prepared.fingerprint, prepared.notes, begun_with)
    if is_rank_zero() and start.resume:
        note_leg(run, before, recipe, resumed)
    if is_rank_zero() and (folder / METRICS).is_file():  # also where it is not written any more
        resumed.cut(next((log for log in loggers if isinstance(log, MetricsFile)), MetricsFile(folder)))
    say(f"run: {run.folder}")
    for note in prepared.notes:
        say(f"warning: {note}")
    say(f"data: {prepared.told}")
    return Session(
        recipe, manager, run, kind, prepared, loggers, say, progress, request=start.request, resumed=resumed
    )


def lineage_of(kind: DataKind, prepared: Prepared, autoencoder: Autoencoder) -> dict[str, Any]:
    """Facts that another run must share to be built upon."""
    facts = prepared.facts(autoencoder)
    return {name: facts.get(name) for name in kind.words.lineage}
