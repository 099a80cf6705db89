"""check_study: whether this machine has what the open trials of a study need, before any of them begins; and
check_cells: the same of all cells, before any step is timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from calmkit.interfaces import Launcher
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import Problem, RecipeError
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.studies.plan import StudyPlan
from calmkit.studies.schema import Study
from calmkit.training.environment import missing_devices, missing_libraries


def check_study(planned: StudyPlan, manager: Manager, launcher: Launcher | None = None) -> None:
    """Look at one trial of each cell that is open; what several cells lack is told of the first.

    Devices count where the launcher starts its processes on this machine; on others they may be different.

    Args:
        planned: What is done already needs nothing.
        manager: Parts.
        launcher: Default the study's.

    Raises:
        RecipeError: CK150, for all that is missing.
    """
    cells = {trial.cell: trial.recipe for trial in planned.open_trials()}
    _check(cells, planned.study, manager, launcher)


def check_cells(study: Study, manager: Manager, launcher: Launcher | None = None) -> None:
    """Look at one trial of each cell, before it is known which are open: for `plan_study`, before it times.

    Args:
        study: Its cells may lack a budget.
        manager: Parts.
        launcher: Default the study's.

    Raises:
        RecipeError: CK150, for all that is missing.
    """
    _check({cell.label: cell.recipes[0] for cell in study.cells}, study, manager, launcher)


def _check(cells: Mapping[str, Recipe], study: Study, manager: Manager, launcher: Launcher | None) -> None:
    spec = study.launcher
    launcher = launcher or manager.build("launchers", spec.name, spec.options)
    assert launcher is not None
    found: dict[tuple[str, str], Problem] = {}
    for cell, recipe in cells.items():
        problems = [*missing_libraries(recipe, manager, validate(recipe, manager))]
        if launcher.on_this_machine:
            problems += missing_devices(recipe)
        for problem in problems:
            told = replace(problem, message=f"cell '{cell}': {problem.message}")
            found.setdefault((problem.key, problem.message), told)
    if found:
        raise RecipeError(found.values())
