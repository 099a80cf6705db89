"""Snapshot: a study as it was begun, kept in its folder, so that it can be gone on with from there.

study.yaml   the file as it was read
begun.json   where it stood, what the command line said, where the runs lie, and the key of every trial
clock.json   what the steps of a study matched by wall_clock took when it was begun
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from calmkit.registry import Manager
from calmkit.studies.plan import CLOCK, Places, StudyPlan, plan_study
from calmkit.studies.schema import Study, read_study
from calmkit.training.checkpoints import write_json, write_text
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Progress
from calmkit.training.run import read_json

STUDY, BEGUN = "study.yaml", "begun.json"


def write_snapshot(planned: StudyPlan) -> None:
    """Into the folder of a study that begins."""
    study, where = planned.study, planned.places
    write_text(where.study / STUDY, study.text)
    begun = {
        "path": str(study.path.resolve()),
        "store": str(where.store.resolve()),
        "overrides": list(study.overrides),
        "trials": {trial.label: trial.key for trial in planned.trials},
    }
    write_json(where.study / BEGUN, begun)
    if study.match.by == "wall_clock":
        planned.clock.save(where.study / CLOCK)


def require_study(folder: Path) -> None:
    """Refuse a folder in which no study was begun.

    Raises:
        RunFailed: Naming what is missing, and the cure.
    """
    if not (folder / STUDY).is_file() or not (folder / BEGUN).is_file():
        raise RunFailed(
            f"{folder} is no folder of a study: it has no {STUDY}. `calmkit study run NAME` begins one, in "
            "runs/studies/NAME unless --out says otherwise."
        )


def planned_in(
    folder: Path,
    manager: Manager,
    progress: Progress | None = None,
    check: Callable[[Study], None] | None = None,
) -> StudyPlan:
    """The plan of a study as it was begun; `progress`, if any, is told how far that is, and `check` asked
    before a step is timed.

    Raises:
        RunFailed: The folder holds no study, or the recipes that it was made of have changed since.
        RecipeError: The study can't be read any more, such as when its base recipe has gone.
    """
    require_study(folder)
    begun = read_json(folder / BEGUN)
    text = (folder / STUDY).read_text(encoding="utf-8")
    study = read_study(text, Path(begun["path"]), manager, begun["overrides"])
    where = Places(folder, Path(begun["store"]))
    planned = plan_study(study, manager, where, progress=progress, check=check)
    now = {trial.key for trial in planned.trials}
    changed = [label for label, key in begun["trials"].items() if key not in now]
    if changed:
        raise RunFailed(
            f"The recipes or the data of this study have changed since it was begun: '{changed[0]}'"
            f"{f' and {len(changed) - 1} more trials' if len(changed) > 1 else ''} would be trained "
            f"otherwise now. calmkit study run {study.path} runs it as it is now; what is done stays.",
            folder,
        )
    return planned
