"""What a study asks of its trained trials: every sampler and every block length, measured once and kept.

Each trial is measured by a process of its own, `calmkit study measure FOLDER KEY`, which writes
`<key>.work/asked-<wish>.json`; another wish has another file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calmkit.data.digest import digest
from calmkit.interfaces import DataKind, Front, Job, Launcher, Prepared, Sampler, StatesRoom, WeightedHead
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.results.sampling_lines import Row
from calmkit.studies.display import Display
from calmkit.studies.failures import in_words, work_folder
from calmkit.studies.jobs import job_of, launch, stop_left
from calmkit.studies.plan import StudyPlan, Trial
from calmkit.studies.sampling import honoured
from calmkit.studies.sampling_rows import sampler_row
from calmkit.studies.schema import Study
from calmkit.studies.store import is_trained
from calmkit.studies.watch import PROGRESS, Watch, Watched
from calmkit.training.checkpoints import write_json
from calmkit.training.evaluate import measure
from calmkit.training.progress import Progress, Say, quiet_libraries
from calmkit.training.run import NO_METRICS, Run, load_run, read_json
from calmkit.training.standing import StandingFile
from calmkit.training.trainer import make_trainer

MEASURE_LOG = "measure.txt"
FORM = 3  # of the rows that are kept; raised when they hold something else, so that older ones are made anew


def ask_trials(
    planned: StudyPlan, launcher: Launcher | None, display: Display
) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """What is known of every trained trial; what is not, is measured if there is a launcher.

    Returns:
        Key of a trial -> `sampling` {rows, left_out} and `blocks`, as far as the study asks for them; and
        label of a trial -> why it could not be measured.
    """
    study, where = planned.study, planned.places
    if not _wishes(study):
        return {}, {}
    trained = [trial for trial in planned.trials if is_trained(where.trial(trial.key))]
    missing = [trial for trial in trained if not _file(planned, trial).is_file()]
    if missing and launcher is not None:
        _measure(planned, missing, launcher, display)
    files = {trial.key: _file(planned, trial) for trial in trained}
    failed = {
        trial.label: f"see {work_folder(where.trial(trial.key)) / MEASURE_LOG}"
        for trial in trained
        if not files[trial.key].is_file()
    }
    return {key: read_json(file) for key, file in files.items() if file.is_file()}, failed


def _measure(planned: StudyPlan, missing: Sequence[Trial], launcher: Launcher, display: Display) -> None:
    """Each in a process of its own."""
    display.say(f"measuring {len(missing)} trials as the study asks")
    jobs = [_job(planned, trial) for trial in missing]
    stop_left(launcher, [job.log for job in jobs], display.say)
    files = [_progress_file(planned, trial) for trial in missing]
    for file in files:
        file.unlink(missing_ok=True)
    # what measuring costs is not planned: all are taken to be equal
    watched = [Watched(job.name, file, {"measuring": 1.0}) for job, file in zip(jobs, files, strict=True)]
    room = launcher.at_once(jobs) if isinstance(launcher, StatesRoom) else 1
    watch = Watch([(watched, room)], display, "trials measured")

    def ended(job: Job, code: int) -> None:
        watch.ended(job.name, code == 0)
        display.say(f"{job.name}: {'done' if code == 0 else in_words(code, job.log)}")

    with watch.over([job.name for job in jobs]):
        launch(launcher, jobs, ended)


def measure_trial(
    planned: StudyPlan, key: str, manager: Manager, say: Say, standing: StandingFile | None = None
) -> Path:
    """Measure one trained trial as its study asks, and keep what was found."""
    progress = Progress(say, standing)
    quiet_libraries()
    trial = next(trial for trial in planned.trials if trial.key == key)
    run = Run(planned.places.trial(key))
    recipe = run.recipe(manager, [NO_METRICS])
    front = load_run(run.folder, manager, device="cpu")  # the recipe's trainer says where
    kind = kind_of(recipe, manager)
    prepared = kind.prepare(recipe, manager, progress, kept=front)
    front.model.to(make_trainer(recipe).strategy.root_device)
    found: dict[str, Any] = {}
    if planned.study.sampling is not None:
        found["sampling"] = _samplers(planned.study, recipe, kind, front, prepared, manager, progress)
    if planned.study.blocks is not None:
        lengths = planned.study.blocks.lengths
        found["blocks"] = [
            _block(recipe, kind, front, prepared, manager, length, progress) for length in lengths
        ]
    file = _file(planned, trial)
    write_json(file, found)
    return file


def _samplers(
    study: Study,
    recipe: Recipe,
    kind: DataKind,
    front: Front,
    prepared: Prepared,
    manager: Manager,
    progress: Progress,
) -> dict[str, Any]:
    """What the kind of data scores a sampler by, and cost, under every sampler that the head can serve."""
    assert study.sampling is not None
    rows: list[Row] = []
    left_out: list[dict[str, str]] = []
    model, max_rows = front.model, recipe.evaluation.max_rows
    data = prepared.rows(recipe, model.autoencoder, batch_size=1, max_rows=max_rows)
    units = study.sampling.units
    for spec in study.sampling.samplers:
        phase = progress.begin(f"sampler {spec.label}", unit="unit", total=units, announce=True)
        sampler: Sampler = manager.build("samplers", spec.part.name, spec.part.options)
        why = honoured(sampler, model.head.info.options, isinstance(model.head, WeightedHead))
        try:
            if not why:
                scores = kind.score_sampler(
                    model, sampler, data, max_units=units, seed=recipe.seed, progress=phase.at
                )
                rows.append(sampler_row(spec, scores))
        except Exception as error:  # a guest's sampler may raise anything; the other numbers stay
            told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            why = told.split("\n", 1)[0]
        phase.end()
        if why:
            left_out.append({"sampler": spec.label, "why": why})
    return {"rows": rows, "left_out": left_out}


def _block(
    recipe: Recipe,
    kind: DataKind,
    front: Front,
    prepared: Prepared,
    manager: Manager,
    length: int,
    progress: Progress,
) -> dict[str, Any]:
    """The scores on rows of that length, over as much data as the recipe's evaluation reads."""
    rows = max(1, int(recipe.evaluation.max_rows * kind.elements_per_row(recipe)) // length)
    shaped = replace(recipe, data=replace(recipe.data, sequence_length=length))
    data = prepared.rows(shaped, front.model.autoencoder, batch_size=1, max_rows=rows)
    measured = measure(
        shaped, kind, manager, prepared, front.model, data, f"blocks of {length}", progress=progress
    )
    groups = [] if measured.table is None else measured.table[1].tolist()
    primary, element = kind.words.primary, kind.words.element
    names = [primary, f"{primary}_low", f"{primary}_high", f"context_{element}s", "units"]
    known = {name: measured.scores[name] for name in names if name in measured.scores}
    return {f"block_{element}s": float(length), **known, kind.words.groups: groups}


def _job(planned: StudyPlan, trial: Trial) -> Job:
    folder = str(planned.places.study)
    calmkit = (sys.executable, "-m", "calmkit.cli.main")
    told = ("--progress", str(_progress_file(planned, trial)))
    command = (*calmkit, "study", "measure", *told, folder, trial.key)
    log = work_folder(planned.places.trial(trial.key)) / MEASURE_LOG
    return job_of(f"measure {trial.label}", command, log, trial.recipe, len(planned.trials))


def _progress_file(planned: StudyPlan, trial: Trial) -> Path:
    return work_folder(planned.places.trial(trial.key)) / f"measure-{PROGRESS}"


def _wishes(study: Study) -> dict[str, Any]:
    wishes: dict[str, Any] = {}
    if study.sampling is not None:
        parts: Sequence[Any] = [[s.label, s.part.name, s.part.options] for s in study.sampling.samplers]
        wishes["samplers"] = [study.sampling.units, parts]
    if study.blocks is not None:
        wishes["blocks"] = study.blocks.lengths
    return wishes


def _file(planned: StudyPlan, trial: Trial) -> Path:
    wishes = {"form": FORM, **_wishes(planned.study)}
    wish = digest(json.dumps(wishes, sort_keys=True, default=str))[:12]
    return work_folder(planned.places.trial(trial.key)) / f"asked-{wish}.json"
