"""compared_runs: run folders read, and put together where they differ in nothing but their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from calmkit.interfaces import KindWords
from calmkit.recipe.completed import completed
from calmkit.recipe.resolved import flat
from calmkit.recipe.schema import DataSection
from calmkit.registry import Manager, make_manager
from calmkit.report.measures import quantity
from calmkit.studies.kinds import ToldKind, kind_of_runs
from calmkit.studies.labels import label_in
from calmkit.studies.protocol_choice import Candidate
from calmkit.studies.protocols import evaluations_of
from calmkit.studies.store import is_trained
from calmkit.training.errors import RunFailed
from calmkit.training.protocol import SCORED, Protocol
from calmkit.training.reading import read_resolved
from calmkit.training.run import RESOLVED, Run

ASIDE = ("name", "description", "seed", "loggers", "trainer.log_every")
"""Keys that don't change what was trained."""
MEASURING = "evaluation."  # keys that say how it was measured, which the protocol of its evaluation tells
BUILT_ON = "stages.autoencoder.init_from"


@dataclass(frozen=True)
class ComparedRun:
    """A finished run.

    Attributes:
        recipe: Dotted key -> value as text, of what was trained; what it was built on is told by its cost.
        data: Fingerprint of what it was trained on.
        candidate: Its evaluations, of which one is compared.
        label: That a study gave it; empty where none did.
    """

    folder: Path
    name: str
    seed: int
    recipe: Mapping[str, str]
    train_flops: float
    data: str
    versions: Mapping[str, str]
    candidate: Candidate
    label: str = ""


@dataclass(frozen=True)
class Model:
    """Runs that differ in nothing but their seed; `settings` are the keys in which models differ."""

    runs: tuple[ComparedRun, ...]
    label: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def read_runs(folders: Sequence[Path], manager: Manager | None = None) -> tuple[list[ComparedRun], ToldKind]:
    """Read them.

    Args:
        folders: Of the runs.
        manager: Parts, whose defaults older runs have; default all that are installed.

    Returns:
        The runs, and the kind of data that they are about.

    Raises:
        RunFailed: One is missing, holds no run or an unfinished one, or is named twice; or they are about
            different kinds of data.
    """
    seen: dict[Path, Path] = {}
    for folder in folders:
        other = seen.setdefault(folder.resolve(), folder)
        if other is not folder:
            raise RunFailed(f"The run {folder} is named twice; name it once.")
    manager = manager or make_manager()
    recipes = completed([_recipe(folder) for folder in folders], manager)
    corpora = [recipe.get("data.name", DataSection().part.name) for recipe in recipes]
    said = {str(f): (name, Run(f).evaluation) for f, name in zip(folders, corpora, strict=True)}
    kind = kind_of_runs(said, manager)
    return [_read(folder, recipe, kind.words) for folder, recipe in zip(folders, recipes, strict=True)], kind


def _recipe(folder: Path) -> dict[str, str]:
    """Of a finished run."""
    if not folder.exists():
        raise RunFailed(f"There is no run folder {folder}. `calmkit ls runs` lists runs.")
    if not (folder / RESOLVED).is_file():
        raise RunFailed(f"{folder} is no run folder: it has no {RESOLVED}. `calmkit ls runs` lists runs.")
    if not is_trained(folder):
        raise RunFailed(
            f"The run {folder} is not finished: it holds no evaluation of a trained model with its samples. "
            "Leave it out, or train it to its end; in the place of one that was exported name the run itself."
        )
    return flat(read_resolved(folder))


def _read(folder: Path, recipe: dict[str, str], words: KindWords) -> ComparedRun:
    run = Run(folder)
    facts = run.facts
    known = {name: str(facts.get(name, "")) for name in words.reads}
    candidate = Candidate(folder, known, dict(recipe), evaluations_of(run, recipe, words))
    if recipe.get(BUILT_ON, "null") != "null":  # each seed has one of its own, under another name
        recipe[BUILT_ON] = f"an autoencoder of {quantity(facts.get('autoencoder_train_flops', 0))}FLOPs"
    lock = run.lock
    return ComparedRun(
        folder=folder,
        name=recipe["name"],
        seed=int(recipe["seed"]),
        recipe={k: v for k, v in recipe.items() if k not in ASIDE and not k.startswith(MEASURING)},
        train_flops=float(facts["lm_train_flops"] + facts.get("autoencoder_train_flops", 0)),
        data=str(lock.get("data", "")),
        versions={name: str(version) for name, version in (lock.get("versions") or {}).items()},
        candidate=candidate,
        label=label_in(recipe.get("description", ""), int(recipe["seed"])),
    )


def told_apart(runs: Sequence[ComparedRun], protocols: Mapping[Path, Protocol]) -> list[ComparedRun]:
    """The same where all were measured alike; else with the protocol among what tells models apart."""
    names = [protocols[run.folder] for run in runs]
    if all(one.agrees(other, SCORED) for one in names for other in names):
        return list(runs)
    return [
        replace(run, recipe={**run.recipe, "protocol": one.scores})
        for run, one in zip(runs, names, strict=True)
    ]


def grouped(runs: Sequence[ComparedRun]) -> list[Model]:
    """Runs with equal recipes together, in the order in which they were named.

    Raises:
        RunFailed: Two of a group have the same seed.
    """
    groups: dict[tuple[tuple[str, str], ...], list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(run.recipe.items())), []).append(run)
    for group in groups.values():
        by_seed: dict[int, ComparedRun] = {}
        for run in group:
            other = by_seed.setdefault(run.seed, run)
            if other is not run:
                raise RunFailed(
                    f"{other.folder} and {run.folder} are the same recipe with the same seed ({run.seed}): "
                    "both would count one training twice. Name one of them."
                )
    return [Model(tuple(group)) for group in groups.values()]
