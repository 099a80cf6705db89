"""kinds: which kind of data the runs of a study, or those that are compared, are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from calmkit.interfaces import Corpus, DataKind, KindWords
from calmkit.recipe.errors import refuse
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.recipe.tree import Keys
from calmkit.registry import Manager
from calmkit.studies.rankable import Rankable
from calmkit.training.errors import RunFailed


@dataclass(frozen=True)
class ToldKind:
    """A kind of data by name, and how it is told."""

    name: str
    words: KindWords

    def as_plain(self, known: Mapping[str, Rankable]) -> dict[str, Any]:
        """As `results.json` holds it, with the words of every number that tables and figures may show."""
        words = self.words
        columns = (*words.scores, *words.costs)
        shown = {words.primary, *words.curve, *words.averaged, *words.csv, *(one.name for one in columns)}
        numbers = {name: asdict(known[name].number) for name in sorted(shown) if name in known}
        return {"name": self.name, "words": words.as_plain(), "numbers": numbers}


def kind_of_cells(recipes: Sequence[Recipe], root: Keys, manager: Manager) -> tuple[str, DataKind]:
    """That of all recipes of a study, with its name.

    Raises:
        RecipeError: CK133 they are of several kinds.
    """
    kinds = {_name(recipe, manager): recipe for recipe in recipes}
    if len(kinds) > 1:
        told = " and ".join(f"{name} ({recipe.data.part.name})" for name, recipe in kinds.items())
        message = f"the cells are of different kinds of data, {told}: no number is about all of them"
        raise refuse("CK133", message, root.key_marks["grid"], "grid", "make a study of each")
    return next(iter(kinds)), kind_of(recipes[0], manager)


def told_kind(recipe: Recipe, manager: Manager) -> ToldKind:
    """That of a recipe."""
    return ToldKind(_name(recipe, manager), kind_of(recipe, manager).words)


def _name(recipe: Recipe, manager: Manager) -> str:
    kind_of(recipe, manager)  # refuses one that nobody brings
    corpus: type[Corpus] = manager.find("corpora", recipe.data.part.name).cls
    return str(corpus.data_kind)


def kind_of_runs(runs: Mapping[str, tuple[str, Mapping[str, Any]]], manager: Manager) -> ToldKind:
    """That of finished runs.

    Args:
        runs: Folder -> name of its corpus, and its evaluation.
        manager: Parts.

    Raises:
        RunFailed: They are of several kinds, or of one that nobody brings.
    """
    found = {folder: _of_run(folder, *said, manager) for folder, said in runs.items()}
    by_name = {kind.name: folder for folder, kind in found.items()}
    if len(by_name) > 1:
        told = " and ".join(f"{folder} is of {name}" for name, folder in by_name.items())
        raise RunFailed(f"Runs on different kinds of data have no number in common: {told}.")
    return next(iter(found.values()))


def _of_run(folder: str, corpus: str, evaluation: Mapping[str, Any], manager: Manager) -> ToldKind:
    """By the corpus; where its plugin has gone, by the number that it was scored by."""
    kinds: dict[str, KindWords] = {
        name: cast(type[DataKind], part.cls).words for name, part in manager.parts["data_kinds"].items()
    }
    part = manager.parts["corpora"].get(corpus)
    named = "" if part is None else str(cast(type[Corpus], part.cls).data_kind)
    if named in kinds:
        return ToldKind(named, kinds[named])
    for name, words in kinds.items():
        if words.primary in evaluation:
            return ToldKind(name, words)
    raise RunFailed(
        f"{folder} is about data '{corpus}', of a kind that nobody here brings. Install the plugin that "
        "has it."
    )
