"""Where each trial of a study stands, read from the files that it leaves and keeps."""

from __future__ import annotations

import csv
from pathlib import Path

from calmkit.studies.board import Running
from calmkit.studies.failures import failure, work_folder
from calmkit.studies.plan import StudyPlan, Trial
from calmkit.studies.store import holder_of, is_encoded, is_trained
from calmkit.studies.time_left import Share, seconds_left_of
from calmkit.studies.works import Work, autoencoder_works, trial_work
from calmkit.training.pace import time_in_words
from calmkit.training.standing import read_standing


def status_rows(planned: StudyPlan) -> list[list[str]]:
    """`trial`, `state` (done, running, failed, waiting, open), `step` and a word on it, for every trial.

    Before them stands every shared autoencoder that is being trained.
    """
    shared = [work for work in autoencoder_works(planned) if holder_of(work_folder(work.folder))]
    rows = [_held(work, 0) for work in shared]
    return rows + [_row(planned, trial) for trial in planned.trials]


def status_summary(planned: StudyPlan) -> str:
    """How many trials are done, and how to go on where nobody does."""
    done = len(planned.trials) - len(planned.open_trials())
    told = f"{done} of {len(planned.trials)} done"
    if done == len(planned.trials) or holder_of(planned.places.study):
        return told
    return f"{told}; go on with: calmkit study resume {planned.places.study}"


def _row(planned: StudyPlan, trial: Trial) -> list[str]:
    folder, steps = planned.places.trial(trial.key), trial.steps
    if is_trained(folder):
        return [trial.label, "done", f"{steps}/{steps}", str(folder)]
    if holder_of(work_folder(folder)):
        return _held(trial_work(planned, trial), steps)
    step = f"{last_step(folder)}/{steps}"
    why = failure(folder)
    if why:
        return [trial.label, "failed", step, why]
    if folder.exists():
        return [trial.label, "open", step, "it was interrupted"]
    shared = trial.autoencoder and not is_encoded(planned.places.autoencoder(trial.autoencoder))
    return [trial.label, "open", step, f"its autoencoder {trial.autoencoder} is open too" if shared else ""]


def _held(work: Work, steps: int) -> list[str]:
    """Of one whose folder a study holds: it runs, or waits to be started; `steps` of stage 2, 0 without."""
    standing = read_standing(work.progress)
    running = standing is not None or work.folder.exists()
    state = "running" if running else "waiting"
    if standing is None:
        step = last_step(work.folder)
        return [work.name, state, f"{step}/{steps}" if steps else "", str(work.log)]
    step = standing.done if standing.phase == "lm" else steps if "lm" in standing.over else 0
    left = seconds_left_of(Share(work.stages, standing), None)
    about = "" if left is None else f", about {time_in_words(left)} left"
    told = f"{Running(work.name, standing).words()}{about}; {work.log}"
    return [work.name, state, f"{step}/{steps}" if steps else "", told]


def last_step(folder: Path) -> int:
    """The last step of stage 2 that a run's log tells of; 0 before it."""
    try:
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            steps = [int(row["step"]) + 1 for row in csv.DictReader(file) if row.get("lm/train/loss")]
    except (OSError, ValueError, KeyError):
        return 0
    return max(steps, default=0)
