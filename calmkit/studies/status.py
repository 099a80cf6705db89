"""Where each trial of a study stands, read from the files that it leaves."""

from __future__ import annotations

import csv
from pathlib import Path

from calmkit.studies.failures import failure, work_folder
from calmkit.studies.plan import StudyPlan, Trial
from calmkit.studies.store import holder_of, is_encoded, is_trained


def status_rows(planned: StudyPlan) -> list[list[str]]:
    """`trial`, `state` (done, running, failed, waiting, open), `step` and a word on it, for every trial."""
    return [_row(planned, trial) for trial in planned.trials]


def _row(planned: StudyPlan, trial: Trial) -> list[str]:
    folder, stage = planned.places.trial(trial.key), trial.recipe.stages.lm
    assert stage is not None
    if is_trained(folder):
        return [trial.label, "done", f"{stage.max_steps}/{stage.max_steps}", str(folder)]
    step = f"{last_step(folder)}/{stage.max_steps}"
    if holder_of(work_folder(folder)):
        state = "running" if folder.exists() else "waiting"
        return [trial.label, state, step, str(work_folder(folder) / "log.txt")]
    why = failure(folder)
    if why:
        return [trial.label, "failed", step, why]
    if folder.exists():
        return [trial.label, "open", step, "it was interrupted"]
    shared = trial.autoencoder and not is_encoded(planned.places.autoencoder(trial.autoencoder))
    return [trial.label, "open", step, f"its autoencoder {trial.autoencoder} is open too" if shared else ""]


def last_step(folder: Path) -> int:
    """The last step of stage 2 that a run's log tells of; 0 before it."""
    try:
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            steps = [int(row["step"]) + 1 for row in csv.DictReader(file) if row.get("lm/train/loss")]
    except (OSError, ValueError, KeyError):
        return 0
    return max(steps, default=0)
