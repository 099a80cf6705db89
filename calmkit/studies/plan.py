"""StudyPlan: everything a study will do, before any of it is done.

study -> cells, one recipe per seed -> equal cost -> trials with their keys -> what is done, what is open
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from calmkit.interfaces import DataError
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError, refuse
from calmkit.recipe.parts import kind_of
from calmkit.recipe.plan import Plan, plan
from calmkit.recipe.runs_named import cells_named
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.studies.equal_cost import matched
from calmkit.studies.fit import refuse_unidentified
from calmkit.studies.match import name_of
from calmkit.studies.references import in_turns, keys_of_trials, knowing
from calmkit.studies.schema import Study
from calmkit.studies.store import Keys, is_encoded, is_trained
from calmkit.studies.timing import StepClock
from calmkit.training.progress import Phase, Progress

CLOCK = "clock.json"


@dataclass(frozen=True)
class Trial:
    """A cell with one seed: one run to be made.

    Attributes:
        cell: Label of its cell.
        recipe: Its budget set, its stage 1 as if it were trained alone.
        key: Name of its run folder.
        autoencoder: Key of the autoencoder that it takes over; None where it trains its own, or has none.
        cost: What it takes.
        rests_on: Label -> key of the trials of the same seed that it begins with, which are trained before.
    """

    cell: str
    recipe: Recipe
    key: str
    autoencoder: str | None
    cost: Plan
    rests_on: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Of stage 2."""
        assert self.recipe.stages.lm is not None
        return self.recipe.stages.lm.max_steps

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.cell}, seed {self.recipe.seed}"


@dataclass(frozen=True)
class Places:
    """Where a study's work lies.

    Attributes:
        study: Results and report.
        store: Run folders, under `cells` and `autoencoders`.
    """

    study: Path
    store: Path

    def trial(self, key: str) -> Path:
        """The run folder of a trial."""
        return self.store / "cells" / key

    def autoencoder(self, key: str) -> Path:
        """The run folder of a shared autoencoder."""
        return self.store / "autoencoders" / key


def places(study: Study, out: Path | None) -> Places:
    """`runs/studies/<name>` and the store `runs` that all studies share; or all of it under `out`."""
    return Places(Path("runs") / "studies" / study.name, Path("runs")) if out is None else Places(out, out)


@dataclass(frozen=True)
class StudyPlan:
    """What a study will do.

    Attributes:
        value: What all cells pay, in the unit of `study.match.by`.
        trials: In the order of cells, then seeds.
        autoencoders: Key -> recipe of an autoencoder that trials share, without a stage 2.
    """

    study: Study
    places: Places
    value: float
    trials: tuple[Trial, ...]
    autoencoders: Mapping[str, Recipe]
    clock: StepClock = field(repr=False)

    def open_trials(self) -> list[Trial]:
        """Those that are not done."""
        return [trial for trial in self.trials if not is_trained(self.places.trial(trial.key))]

    def turns(self) -> list[list[Trial]]:
        """The open trials, each behind those that it begins with."""
        opened = {trial.key: trial for trial in self.open_trials()}
        turns = in_turns({key: list(trial.rests_on.values()) for key, trial in opened.items()})
        return [[opened[key] for key in turn] for turn in turns]

    def open_autoencoders(self) -> list[str]:
        """Keys of those that are not done and that an open trial needs."""
        needed = {trial.autoencoder for trial in self.open_trials()}
        keys = [key for key in self.autoencoders if key in needed]
        return [key for key in keys if not is_encoded(self.places.autoencoder(key))]

    def train_flops(self, only_open: bool = False) -> int:
        """FLOPs that the machine spends: a shared autoencoder once, though each cell pays for it in full."""
        trials = self.open_trials() if only_open else list(self.trials)
        keys = self.open_autoencoders() if only_open else list(self.autoencoders)
        shared = {trial.autoencoder: _first_stage(trial.cost) for trial in self.trials if trial.autoencoder}
        own = sum(t.cost.train_flops - (_first_stage(t.cost) if t.autoencoder else 0) for t in trials)
        return own + sum(shared[key] for key in keys)

    def disk_bytes(self) -> int:
        """Most bytes that the open trials and autoencoders write."""
        models = {t.autoencoder: t.cost.model_bytes for t in self.trials if t.autoencoder}
        return sum(t.cost.run_bytes for t in self.open_trials()) + sum(
            4 * models[key] for key in self.open_autoencoders()
        )

    def seconds(self, progress: Progress | None = None) -> float:
        """Training time of what is open if one process does it all on this machine: steps are timed."""
        total, opened = 0.0, self.open_trials()
        first: dict[str | None, float] = {}
        phase = (progress or Progress.silent()).begin("timing steps", unit="trial", total=len(opened))
        for number, trial in enumerate(opened, start=1):
            stage = trial.recipe.stages.lm
            assert stage is not None
            step, before = self.clock.seconds(trial.recipe)
            total += step * stage.max_steps + (0.0 if trial.autoencoder else before)
            first[trial.autoencoder] = before
            phase.at(number)
        phase.end()
        return total + sum(first[key] for key in self.open_autoencoders())


def plan_study(
    study: Study,
    manager: Manager,
    places: Places,
    clock: StepClock | None = None,
    progress: Progress | None = None,
    check: Callable[[Study], None] | None = None,
) -> StudyPlan:
    """Validate every cell and set its budget; `progress`, if any, is told how far that is.

    Args:
        study: The study.
        manager: Parts.
        places: Where its work lies.
        clock: Times steps; default one that knows what was timed when the study was begun.
        progress: Told how far it is; None: nobody looks.
        check: Refuses a study that this machine can't train, before the first step is timed; where nothing
            has to be timed it isn't asked.

    Raises:
        RecipeError: For a cell that can't be trained (CK140 to CK146) or matched (CK147).
        DataError: The data of a cell can't be found.
    """
    clock = clock or StepClock(manager).load(places.study / CLOCK)
    clock.before = partial(check, study) if check else None
    recipes = {(cell.label, recipe.seed): recipe for cell in study.cells for recipe in cell.recipes}
    progress = progress or Progress.silent()
    with progress.phase("checking", unit="cell", total=len(study.cells)) as phase:
        for number, ((label, _), recipe) in enumerate(_one_seed(recipes), start=1):
            _validate(label, recipe, manager)
            phase.at(number)
    element = kind_of(study.cells[0].recipes[0], manager).words.element
    with progress.phase(f"setting equal {name_of(study.match.by, element)}"):
        recipes, value = matched(recipes, study.baseline, study.match, manager, clock.seconds)
    recipes = knowing(recipes)
    with progress.phase("planning", unit="trial", total=len(recipes)) as phase:
        trials, shared = _trials(study, recipes, manager, phase)
    _refuse_twins(trials, study)
    if study.fit is not None:
        settings = {cell.label: cell.settings for cell in study.cells}
        costs = {trial.cell: trial.cost for trial in trials}
        refuse_unidentified(study.fit, study.text, str(study.path), settings, costs)
    return StudyPlan(study, places, value, tuple(trials), shared, clock)


def _trials(
    study: Study, recipes: Mapping[tuple[str, int], Recipe], manager: Manager, phase: Phase
) -> tuple[list[Trial], dict[str, Recipe]]:
    """The trials, and the recipes of the autoencoders that they share by their keys."""
    keys, trials, shared = Keys(manager), list[Trial](), dict[str, Recipe]()
    costs: dict[str, Plan] = {}

    def key_of(label: str, recipe: Recipe) -> str:
        with _told_of(label):
            return keys.of_trial(recipe)

    by_trial = keys_of_trials(recipes, key_of)
    for (label, seed), recipe in recipes.items():
        if label not in costs:
            costs[label] = plan(recipe, manager)
        with _told_of(label):
            first = _shared_stage(study, recipe)
            autoencoder = keys.of_autoencoder(recipe) if first else None
        if first and autoencoder:
            shared.setdefault(autoencoder, first)
        before = {other: by_trial[other, seed] for other in cells_named(recipe).values()}
        trials.append(Trial(label, recipe, by_trial[label, seed], autoencoder, costs[label], before))
        phase.at(len(trials))
    return trials, shared


@contextmanager
def _told_of(cell: str) -> Iterator[None]:
    """Names the cell whose data can't be read."""
    try:
        yield
    except DataError as error:
        raise DataError(f"cell '{cell}': {error}") from error


def _one_seed(
    recipes: Mapping[tuple[str, int], Recipe],
) -> Iterator[tuple[tuple[str, int], Recipe]]:
    """The first seed of each cell: the others differ in nothing that could be wrong."""
    seen: set[str] = set()
    for (label, seed), recipe in recipes.items():
        if label not in seen:
            seen.add(label)
            yield (label, seed), recipe


def _validate(label: str, recipe: Recipe, manager: Manager) -> None:
    try:
        validate(recipe, manager)
    except RecipeError as error:
        told = [dataclasses.replace(p, message=f"cell '{label}': {p.message}") for p in error.problems]
        raise RecipeError(told) from error


def _refuse_twins(trials: list[Trial], study: Study) -> None:
    """Two cells that resolve to one recipe: one of them does not say what its author meant."""
    by_key: dict[str, Trial] = {}
    for trial in trials:
        other = by_key.setdefault(trial.key, trial)
        if other is not trial:
            message = f"the cells '{other.cell}' and '{trial.cell}' are the same recipe at equal cost"
            raise refuse("CK133", message, study.match.mark, "grid", "an axis or a condition has no effect")


def _shared_stage(study: Study, recipe: Recipe) -> Recipe | None:
    """The recipe of a trial's autoencoder alone, where the study shares it."""
    stage = recipe.stages.autoencoder
    if "autoencoder" not in study.share or stage is None or stage.init_from:
        return None
    ungated = dataclasses.replace(stage, gate=None)  # each trial asks for itself
    return dataclasses.replace(
        recipe, stages=dataclasses.replace(recipe.stages, autoencoder=ungated, lm=None)
    )


def _first_stage(cost: Plan) -> int:
    stage = cost.stages.get("autoencoder")
    return sum(stage.train_flops.values()) if stage else 0


def with_autoencoder(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with a finished autoencoder taken over."""
    stage = recipe.stages.autoencoder
    assert stage is not None
    stage = dataclasses.replace(stage, init_from=str(folder.resolve()))
    return dataclasses.replace(recipe, stages=dataclasses.replace(recipe.stages, autoencoder=stage))
