"""Works: the processes that train a study's autoencoders and trials, each filling a run folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from calmkit.interfaces import Job, Launcher, StatesRoom
from calmkit.recipe.load import to_yaml
from calmkit.recipe.plan import Plan
from calmkit.recipe.runs_named import with_cells
from calmkit.recipe.schema import Recipe
from calmkit.studies.failures import forget, note_failure, work_folder
from calmkit.studies.half_done import can_go_on, forget_going_on, mark_going_on
from calmkit.studies.jobs import job_of, launch, stop_left
from calmkit.studies.labels import described
from calmkit.studies.plan import StudyPlan, Trial, with_autoencoder
from calmkit.studies.store import awaited, is_encoded, is_trained, set_aside
from calmkit.studies.watch import PROGRESS, Watch, Watched
from calmkit.training.checkpoints import write_text
from calmkit.training.progress import Say


@dataclass(frozen=True)
class Work:
    """One process of a study: a recipe and the run folder that it fills.

    Attributes:
        name: What messages call it.
        recipe: That it trains.
        folder: Of the run.
        done: Whether such a folder is filled.
        stages: Stage -> FLOPs that the process spends there.
        peers: How many trials the study has.
        trial: Whether it is one.
    """

    name: str
    recipe: Recipe
    folder: Path
    done: Callable[[Path], bool]
    stages: Mapping[str, float]
    peers: int
    trial: bool = True

    @property
    def log(self) -> Path:
        """What its process writes."""
        return work_folder(self.folder) / "log.txt"

    @property
    def progress(self) -> Path:
        """Where its process keeps its standing."""
        return work_folder(self.folder) / PROGRESS

    def job(self, command: tuple[str, ...] = ()) -> Job:
        """Its process."""
        return job_of(self.name, command, self.log, self.recipe, self.peers)

    def watched(self) -> Watched:
        """What a watch must know of it."""
        return Watched(self.name, self.progress, self.stages, self.trial)


def autoencoder_works(planned: StudyPlan) -> list[Work]:
    """Those of the shared autoencoders that are open."""
    where, peers = planned.places, len(planned.trials)
    cost = {trial.autoencoder: trial.cost for trial in planned.trials}
    return [
        Work(
            f"autoencoder {key}",
            planned.autoencoders[key],
            where.autoencoder(key),
            is_encoded,
            _stages(cost[key], ["autoencoder"]),
            peers,
            trial=False,
        )
        for key in planned.open_autoencoders()
    ]


def trial_work(planned: StudyPlan, trial: Trial) -> Work:
    """That of a trial, with its autoencoder taken over where it is shared, and other cells by their runs."""
    before = {label: planned.places.trial(key) for label, key in trial.rests_on.items()}
    recipe = with_cells(trial.recipe, {label: str(folder.resolve()) for label, folder in before.items()})
    own = ["lm"] if trial.autoencoder else ["autoencoder", "lm"]
    if trial.autoencoder is not None:
        recipe = with_autoencoder(recipe, planned.places.autoencoder(trial.autoencoder))
    folder, peers = planned.places.trial(trial.key), len(planned.trials)
    return Work(trial.label, recipe, folder, is_trained, _stages(trial.cost, own), peers)


def _stages(cost: Plan, names: Sequence[str]) -> dict[str, float]:
    stages = {name: cost.stages[name] for name in names if name in cost.stages}
    return {name: float(sum(stage.train_flops.values())) for name, stage in stages.items()}


def at_once(launcher: Launcher, works: Sequence[Work]) -> int:
    """How many of them will run at the same time, as far as the launcher can tell; at least 1."""
    return launcher.at_once([work.job() for work in works]) if isinstance(launcher, StatesRoom) else 1


def train_works(works: Sequence[Work], launcher: Launcher, watch: Watch, say: Say) -> None:
    """Every work in a process of its own; what fails is noted beside its folder and stops no other."""
    if not works:
        return
    by_name = {work.name: work for work in works}
    number = 0
    with ExitStack() as held:
        for work in sorted(
            works, key=lambda work: work.folder
        ):  # in one order: no two studies wait in a ring
            held.enter_context(awaited(work_folder(work.folder), work.name, say))
        # another study, or a process that outlived this one, may have done some of it
        stop_left(launcher, [work.log for work in works if not work.done(work.folder)], say)
        jobs = [_begin(work, say) for work in works if not work.done(work.folder)]
        for name in by_name.keys() - {job.name for job in jobs}:
            watch.ended(name, True, seconds=0.0)

        def ended(job: Job, code: int) -> None:
            nonlocal number
            number += 1
            work = by_name[job.name]
            why = "" if work.done(work.folder) and code == 0 else note_failure(work.folder, code)
            watch.ended(job.name, not why)
            minutes = (watch.clock() - watch.began) / 60
            say(f"[{number}/{len(jobs)}, {minutes:.1f} min] {work.name}: {why or 'done'}")

        with watch.over([job.name for job in jobs]):
            launch(launcher, jobs, ended)


def _begin(work: Work, say: Say) -> Job:
    """The command that trains one recipe, as a person would type it, or goes on with an earlier try of it."""
    goes_on = can_go_on(work.folder, work.recipe)
    calmkit = (sys.executable, "-m", "calmkit.cli.main")
    watched = ("--progress", str(work.progress))
    work.progress.unlink(missing_ok=True)
    if goes_on:
        say(f"{work.name}: an earlier try did not end; this one goes on with it")
        mark_going_on(work.folder)
        forget(work.folder)
        return work.job((*calmkit, "train", str(work.folder), *watched))
    aside = set_aside(work.folder)
    if aside is not None:
        say(f"{work.name}: an earlier try did not end and can't go on; what it left is now in {aside.name}")
    forget(work.folder)
    forget_going_on(work.folder)
    recipe = work.log.with_name("recipe.yaml")
    told = replace(work.recipe, description=described(work.recipe.description, work.name))
    write_text(recipe, to_yaml(told))
    return work.job((*calmkit, "train", str(recipe), *watched, "--out", str(work.folder)))
