"""run_labels: models named by what sets their recipes apart, and what a reader must know of that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from calmkit.interfaces import DataKind
from calmkit.studies.compared_runs import Model
from calmkit.studies.labels import PARTS, part_names, setting_label
from calmkit.training.protocol import Protocol

PART_NAMES = tuple(f"{part}.name" for part in PARTS)
NAMED = 6  # keys of a sentence, at most


def labelled(models: Sequence[Model]) -> list[Model]:
    """The same with labels that differ, and the settings that differ.

    Where every model has a label of a study and these tell all apart, it keeps it; else it is called by its
    recipe's name where these do, and else by as few settings as will do.
    """
    recipes = [model.runs[0].recipe for model in models]
    keys = _differing(recipes)
    labels = _of_studies(models) or _of_recipes(models) or _labels(models, _telling(recipes, keys))
    return [
        Model(model.runs, label, {key: _value(recipe, key) for key in keys})
        for model, recipe, label in zip(models, recipes, labels, strict=True)
    ]


def _of_studies(models: Sequence[Model]) -> list[str]:
    """One label per model, as studies called them; empty where these don't tell them apart."""
    return _telling_all([{run.label for run in model.runs} for model in models])


def _of_recipes(models: Sequence[Model]) -> list[str]:
    """The names of their recipes; empty where these don't tell them apart, as those of one recipe with other
    settings.
    """
    return _telling_all([{run.name for run in model.runs} for model in models])


def _telling_all(given: Sequence[Collection[str]]) -> list[str]:
    """One word per model, of all that its runs have; empty where some have several, none or another's."""
    labels = [next(iter(one)) for one in given]
    alike = all(len(one) == 1 for one in given) and all(labels)
    return labels if alike and len(set(labels)) == len(labels) else []


def _differing(recipes: Sequence[Mapping[str, str]]) -> list[str]:
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    return [key for key in keys if len({recipe.get(key) for recipe in recipes}) > 1]


def _telling(recipes: Sequence[Mapping[str, str]], keys: Sequence[str]) -> list[str]:
    """Few of the keys that tell all recipes apart: parts first, then those that split most."""
    chosen: list[str] = []

    def classes(some: Sequence[str]) -> int:
        return len({tuple(recipe.get(key) for key in some) for recipe in recipes})

    while classes(chosen) < len(recipes):
        chosen.append(
            max(
                keys,
                key=lambda key: (
                    classes([*chosen, key]) > classes(chosen),
                    key in PART_NAMES,
                    classes([*chosen, key]),
                ),
            )
        )
    return chosen


def _labels(models: Sequence[Model], keys: Sequence[str]) -> list[str]:
    if not keys:
        return [model.runs[0].name for model in models]
    recipes = [model.runs[0].recipe for model in models]
    told = {key: _told([_value(recipe, key) for recipe in recipes]) for key in keys}
    return [
        " ".join(setting_label(key, told[key][number], keys) for key in keys)
        for number in range(len(recipes))
    ]


def _told(values: Sequence[str]) -> list[str]:
    """Values of one key as labels say them: a list of parts by their names alone, unless two lists have the
    same.
    """
    short = [part_names(value) or value for value in values]
    return short if len(set(short)) == len(set(values)) else list(values)


def _value(recipe: Mapping[str, str], key: str) -> str:
    return recipe.get(key, "none")


def warnings_of(models: Sequence[Model], protocols: Mapping[Path, Protocol], kind: DataKind) -> list[str]:
    """What a reader must know of the data before any number is compared: that the runs were measured or
    trained on.
    """
    told, sections = kind.words.data, tuple(f"{section}." for section in ("data", *kind.sections))
    keys = [key for key in models[0].settings if key.startswith(sections)]
    of_data = [key for key in keys if key != "data.sequence_length"]
    why = f" ({_some(of_data)})" if of_data else ""
    measured = {one.data for one in protocols.values()}
    trained = {run.data for model in models for run in model.runs}
    if len(measured - {None}) > 1 or (None in measured and of_data):
        return [f"Not on the same {told}{why}: no difference between these scores means anything."]
    if len(trained) > 1:
        return [f"Measured on the same {told}, but not trained on the same{why}."]
    return []


def remarks_of(models: Sequence[Model]) -> list[str]:
    """In what the recipes differ, where the labels say only a part of it; a part that differs stands for its
    settings.
    """
    keys = list(models[0].settings)
    wholes = [key.removesuffix(".name") for key in keys if key in PART_NAMES]
    wholes += [key for key in keys if any(other.startswith(f"{key}.") for other in keys)]
    told = [next((whole for whole in wholes if f"{key}.".startswith(f"{whole}.")), key) for key in keys]
    return [f"The recipes differ in {_some(list(dict.fromkeys(told)))}."] if len(keys) > 1 else []


def _some(keys: Sequence[str]) -> str:
    shown = [*keys[:NAMED], *([f"{len(keys) - NAMED} more"] if len(keys) > NAMED else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
