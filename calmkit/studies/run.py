"""run_study: every trial in a process of its own, then one table and one report.

study -> plan -> shared autoencoders, once each -> trials -> what is asked of them -> results, tables, report

Nothing is kept in memory that a kill could lose: what is done is told by the run folders, so the same call
goes on where the last one stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from calmkit.interfaces import Job, Launcher
from calmkit.recipe.load import to_yaml
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.studies.ask import ask_trials
from calmkit.studies.failures import forget, note_failure, work_folder
from calmkit.studies.jobs import job_of, launch
from calmkit.studies.labels import described
from calmkit.studies.plan import Places, StudyPlan, Trial, places, plan_study, with_autoencoder
from calmkit.studies.report.write import write_results
from calmkit.studies.results import study_results
from calmkit.studies.schema import load_study
from calmkit.studies.snapshot import planned_in, require_study, write_snapshot
from calmkit.studies.store import awaited, claimed, is_encoded, is_trained, set_aside
from calmkit.training.checkpoints import write_text
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Say


@dataclass(frozen=True)
class Work:
    """One process of a study: a recipe and the run folder that it fills."""

    name: str
    recipe: Recipe
    folder: Path
    done: Callable[[Path], bool]


def run_study(
    name_or_path: str,
    *,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    say: Say = print,
    manager: Manager | None = None,
    launcher: Launcher | None = None,
) -> Path:
    """Run a study, or go on with it: what is done already, in any study, is not done again.

    Args:
        name_or_path: A shipped study (`quickstart`) or a file.
        overrides: Laid over the base recipe of every cell, such as `data.train=a.txt`; `launcher=slurm`.
        out: Folder for everything; default `runs/studies/<name>/`, with the runs in `runs/cells` and
            `runs/autoencoders`, where other studies find them.
        say: Takes each line of what happens.
        manager: Parts; default all that are installed.
        launcher: Starts the processes; default the study's.

    Returns:
        The folder: `results.json`, the tables, `report.html`.

    Raises:
        RecipeError: Before anything is trained.
        RunFailed: Another process runs this study, or, at the end, a trial failed; what the others made is
            kept and reported.
    """
    manager = manager or make_manager()
    study = load_study(name_or_path, manager, overrides)
    where = places(study, out)
    planned = plan_study(study, manager, where)
    with claimed(where.study, f"The study '{study.name}'"):
        write_snapshot(planned)
        return _run(planned, manager, say, launcher)


def resume_study(
    folder: Path, *, say: Say = print, manager: Manager | None = None, launcher: Launcher | None = None
) -> Path:
    """Go on with a study as it was begun, from its folder: later changes of its file don't count.

    Paths that its overrides name are looked for from the current folder, as when it was begun.

    Raises:
        RunFailed: The folder holds no study; and what `run_study` raises.
    """
    manager = manager or make_manager()
    require_study(folder)
    with claimed(folder, f"The study of {folder}"):
        planned = planned_in(folder, manager)
        return _run(planned, manager, say, launcher)


def report_study(folder: Path, *, say: Say = print, manager: Manager | None = None) -> Path:
    """Write tables and report anew from what is done, and train nothing.

    Raises:
        RunFailed: The folder holds no study, or no trial of it is done.
    """
    manager = manager or make_manager()
    planned = planned_in(folder, manager)
    _finish(planned, None, say, complete=False)
    return folder


def _run(planned: StudyPlan, manager: Manager, say: Say, launcher: Launcher | None) -> Path:
    study, where = planned.study, planned.places
    launcher = launcher or manager.build("launchers", study.launcher.name, study.launcher.options)
    assert launcher is not None
    opened = planned.open_trials()
    done = len(planned.trials) - len(opened)
    say(
        f"study {study.name}: {len(study.cells)} cells, {len(planned.trials)} trials, {done} done already; "
        f"{where.study}"
    )
    shared = [
        Work(f"autoencoder {key}", planned.autoencoders[key], where.autoencoder(key), is_encoded)
        for key in planned.open_autoencoders()
    ]
    _train(shared, launcher, where, say)
    ready = [trial for trial in opened if _has_autoencoder(trial, where, say)]
    trials = [
        Work(trial.label, _final_recipe(trial, where), where.trial(trial.key), is_trained) for trial in ready
    ]
    _train(trials, launcher, where, say)
    if study.path.is_file() and study.path.read_text(encoding="utf-8", errors="replace") != study.text:
        say(
            f"{study.path} was edited while it ran: these are the results of the study as it was begun. "
            f"calmkit study run {study.path} adds what is new."
        )
    _finish(planned, launcher, say)
    return where.study


def _finish(planned: StudyPlan, launcher: Launcher | None, say: Say, complete: bool = True) -> None:
    """Ask what the study asks of its trials, and write everything down.

    Raises:
        RunFailed: With `complete`, where a trial is not done; always where none is.
    """
    asked, unmeasured = ask_trials(planned, launcher, say)
    results = study_results(planned, asked)
    write_results(results, planned.places.study, say)
    failed = [
        f"{cell['label']}, seed {trial['seed']} ({trial['why']})"
        for cell in results["cells"]
        for trial in cell["trials"]
        if trial["state"] in ("failed", "open")
    ]
    if unmeasured and complete:
        failed += [f"measuring {label} ({why})" for label, why in unmeasured.items()]
    if failed and (complete or len(failed) == len(planned.trials)):
        raise RunFailed(
            f"{len(failed)} of {len(planned.trials)} trials failed: {'; '.join(failed)}. The others are "
            f"kept and reported; calmkit study resume {planned.places.study} tries these again.",
            planned.places.study,
        )


def _train(works: Sequence[Work], launcher: Launcher, where: Places, say: Say) -> None:
    """Every work in a process of its own; what fails is noted beside its folder and stops no other."""
    if not works:
        return
    by_name = {work.name: work for work in works}
    number, began = 0, time.perf_counter()
    with ExitStack() as held:
        for work in sorted(
            works, key=lambda work: work.folder
        ):  # in one order: no two studies wait in a ring
            held.enter_context(awaited(work_folder(work.folder), work.name, say))
        # another study may have done some of it while this one waited
        jobs = [_job(work, say) for work in works if not work.done(work.folder)]

        def ended(job: Job, code: int) -> None:
            nonlocal number
            number += 1
            work = by_name[job.name]
            why = "" if work.done(work.folder) and code == 0 else note_failure(work.folder, code)
            minutes = (time.perf_counter() - began) / 60
            say(f"[{number}/{len(jobs)}, {minutes:.1f} min] {work.name}: {why or 'done'}")

        launch(launcher, jobs, ended)


def _job(work: Work, say: Say) -> Job:
    """The command that trains one recipe, as a person would type it."""
    aside = set_aside(work.folder)
    if aside is not None:
        say(f"{work.name}: an earlier try did not end; what it left is now in {aside.name}")
    forget(work.folder)
    recipe = work_folder(work.folder) / "recipe.yaml"
    told = replace(work.recipe, description=described(work.recipe.description, work.name))
    write_text(recipe, to_yaml(told))
    command = (sys.executable, "-m", "calmkit.cli.main", "train", str(recipe), "--out", str(work.folder))
    return job_of(work.name, command, recipe.with_name("log.txt"), work.recipe)


def _final_recipe(trial: Trial, where: Places) -> Recipe:
    if trial.autoencoder is None:
        return trial.recipe
    return with_autoencoder(trial.recipe, where.autoencoder(trial.autoencoder))


def _has_autoencoder(trial: Trial, where: Places, say: Say) -> bool:
    """Whether what a trial builds upon is there; if not, that is why it fails."""
    if trial.autoencoder is None or is_encoded(where.autoencoder(trial.autoencoder)):
        return True
    why = note_failure(where.trial(trial.key), 1, because=where.autoencoder(trial.autoencoder))
    say(f"{trial.label}: {why}")
    return False
