"""run_study: every trial in a process of its own, then one table and one report.

study -> plan -> shared autoencoders, once each -> trials -> what is asked of them -> results, tables, report

Nothing is kept in memory that a kill could lose: what is done is told by the run folders, so the same call
goes on where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from calmkit.interfaces import Launcher
from calmkit.registry import Manager, make_manager
from calmkit.report.write import write_results
from calmkit.studies.ask import ask_trials
from calmkit.studies.display import Display, LinesDisplay
from calmkit.studies.environment import check_cells, check_study
from calmkit.studies.failures import note_failure
from calmkit.studies.kinds import told_kind
from calmkit.studies.plan import Places, StudyPlan, Trial, places, plan_study
from calmkit.studies.rankable import rankable
from calmkit.studies.results import study_results
from calmkit.studies.schema import load_study
from calmkit.studies.snapshot import planned_in, require_study, write_snapshot
from calmkit.studies.stopping import resume_of, told_that_nothing_began, told_where_it_stopped
from calmkit.studies.store import claimed, is_encoded, is_trained
from calmkit.studies.watch import Watch
from calmkit.studies.works import at_once, autoencoder_works, train_works, trial_work
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Progress, Say


def run_study(
    name_or_path: str,
    *,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    say: Say = print,
    manager: Manager | None = None,
    launcher: Launcher | None = None,
    display: Display | None = None,
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
        display: Shows what the processes are doing, and takes the lines in place of `say`; default a line to
            `say` where it would be silent for long.

    Returns:
        The folder: `results.json`, the tables, `report.html`.

    Raises:
        RecipeError: Before anything is trained, also for what this machine lacks.
        RunFailed: Another process runs this study, or, at the end, a trial failed; what the others made is
            kept and reported.
    """
    display = display or LinesDisplay(say)
    manager = manager or make_manager()
    study = load_study(name_or_path, manager, overrides)
    where = places(study, out)
    display.say(f"checking {len(study.cells)} cells and setting their budgets")
    check = partial(check_cells, manager=manager, launcher=launcher)
    with told_that_nothing_began("the same call begins it"):
        planned = plan_study(study, manager, where, progress=Progress(display.say), check=check)
        check_study(planned, manager, launcher)
    with claimed(where.study, f"The study '{study.name}'"):
        write_snapshot(planned)
        return _run(planned, manager, display, launcher)


def resume_study(
    folder: Path,
    *,
    say: Say = print,
    manager: Manager | None = None,
    launcher: Launcher | None = None,
    display: Display | None = None,
) -> Path:
    """Go on with a study as it was begun, from its folder: later changes of its file don't count.

    Paths that its overrides name are looked for from the current folder, as when it was begun.

    Raises:
        RunFailed: The folder holds no study; and what `run_study` raises.
    """
    display = display or LinesDisplay(say)
    manager = manager or make_manager()
    require_study(folder)
    display.say("checking its cells and setting their budgets, as when it was begun")
    with claimed(folder, f"The study of {folder}"):
        check = partial(check_cells, manager=manager, launcher=launcher)
        with told_that_nothing_began(f"go on with: {resume_of(folder)}"):
            planned = planned_in(folder, manager, Progress(display.say), check)
            check_study(planned, manager, launcher)
        return _run(planned, manager, display, launcher)


def report_study(folder: Path, *, say: Say = print, manager: Manager | None = None) -> Path:
    """Write tables and report anew from what is done, and train nothing.

    Raises:
        RunFailed: The folder holds no study, or no trial of it is done.
    """
    manager = manager or make_manager()
    planned = planned_in(folder, manager)
    _finish(planned, manager, None, LinesDisplay(say), complete=False)
    return folder


def _run(planned: StudyPlan, manager: Manager, display: Display, launcher: Launcher | None) -> Path:
    with told_where_it_stopped(planned):
        _train_and_report(planned, manager, display, launcher)
    return planned.places.study


def _train_and_report(
    planned: StudyPlan, manager: Manager, display: Display, launcher: Launcher | None
) -> None:
    study, where, say = planned.study, planned.places, display.say
    launcher = launcher or manager.build("launchers", study.launcher.name, study.launcher.options)
    assert launcher is not None
    turns = planned.turns()
    done = len(planned.trials) - sum(map(len, turns))
    say(
        f"study {study.name}: {len(study.cells)} cells, {len(planned.trials)} trials, {done} done already; "
        f"{where.study}"
    )
    shared = autoencoder_works(planned)
    trials = [[trial_work(planned, trial) for trial in turn] for turn in turns]
    batches = [([work.watched() for work in works], at_once(launcher, works)) for works in (shared, *trials)]
    watch = Watch(batches, display, done=done)
    train_works(shared, launcher, watch, say)
    for turn, works in zip(turns, trials, strict=True):
        ready = [_can_begin(trial, where, say) for trial in turn]
        for work, can in zip(works, ready, strict=True):
            if not can:
                watch.ended(work.name, False)
        train_works([work for work, can in zip(works, ready, strict=True) if can], launcher, watch, say)
    if study.path.is_file() and study.path.read_text(encoding="utf-8", errors="replace") != study.text:
        say(
            f"{study.path} was edited while it ran: these are the results of the study as it was begun. "
            f"calmkit study run {study.path} adds what is new."
        )
    _finish(planned, manager, launcher, display)


def _finish(
    planned: StudyPlan,
    manager: Manager,
    launcher: Launcher | None,
    display: Display,
    complete: bool = True,
) -> None:
    """Ask what the study asks of its trials, and write everything down.

    Raises:
        RunFailed: With `complete`, where a trial is not done; always where none is.
    """
    asked, unmeasured = ask_trials(planned, launcher, display)
    display.say("writing the tables and the report")
    kind = told_kind(planned.trials[0].recipe, manager)
    results = study_results(planned, asked, rankable(manager), kind)
    write_results(results, planned.places.study, display.say)
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


def _can_begin(trial: Trial, where: Places, say: Say) -> bool:
    """Whether what a trial builds upon is there; if not, that is why it fails."""
    before = {f"cell '{label}'": where.trial(key) for label, key in trial.rests_on.items()}
    lacking = {what: folder for what, folder in before.items() if not is_trained(folder)}
    if trial.autoencoder is not None and not is_encoded(where.autoencoder(trial.autoencoder)):
        lacking = {"autoencoder": where.autoencoder(trial.autoencoder)}
    for what, folder in lacking.items():
        why = note_failure(where.trial(trial.key), 1, because=folder, what=what)
        say(f"{trial.label}: {why}")
        return False
    return True
