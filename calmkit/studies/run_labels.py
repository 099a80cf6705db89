"""run_labels: models named by what sets their recipes apart, and what a reader must know of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from calmkit.studies.compared_runs import Model
from calmkit.training.protocol import Protocol

PARTS = tuple(
    f"{part}.name" for part in ("head", "autoencoder", "backbone", "embedder", "sampler", "tokenizer", "data")
)
NAMED = 6  # keys of a sentence, at most


def labelled(models: Sequence[Model]) -> list[Model]:
    """The same with labels that differ, as short as they can be, and the settings that differ."""
    recipes = [model.runs[0].recipe for model in models]
    keys = _differing(recipes)
    labels = _labels(models, _telling(recipes, keys))
    return [
        Model(model.runs, label, {key: _value(recipe, key) for key in keys})
        for model, recipe, label in zip(models, recipes, labels, strict=True)
    ]


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
                    key in PARTS,
                    classes([*chosen, key]),
                ),
            )
        )
    return chosen


def _labels(models: Sequence[Model], keys: Sequence[str]) -> Iterator[str]:
    if not keys:
        return (model.runs[0].name for model in models)
    names = {key: _short(key, keys) for key in keys}
    return (" ".join(f"{names[key]}={_value(model.runs[0].recipe, key)}" for key in keys) for model in models)


def _short(key: str, among: Sequence[str]) -> str:
    """`head` for `head.name`; else the last word where no other key ends like it."""
    if key in PARTS:
        return key.removesuffix(".name")
    last = key.rsplit(".", 1)[-1]
    return last if sum(other.rsplit(".", 1)[-1] == last for other in among) == 1 else key


def _value(recipe: Mapping[str, str], key: str) -> str:
    return recipe.get(key, "none")


def warnings_of(models: Sequence[Model], protocols: Mapping[Path, Protocol]) -> list[str]:
    """What a reader must know of the text before any number is compared: that the runs were measured or
    trained on.
    """
    keys = [key for key in models[0].settings if key.startswith(("data.", "tokenizer."))]
    of_text = [key for key in keys if key != "data.sequence_length"]
    why = f" ({_some(of_text)})" if of_text else ""
    measured = {one.data for one in protocols.values()}
    trained = {run.text for model in models for run in model.runs}
    if len(measured - {None}) > 1 or (None in measured and of_text):
        return [f"Not on the same text{why}: no difference between these scores means anything."]
    if len(trained) > 1:
        return [f"Measured on the same text, but not trained on the same{why}."]
    return []


def remarks_of(models: Sequence[Model]) -> list[str]:
    """In what the recipes differ, where the labels say only a part of it; a part that differs stands for its
    settings.
    """
    keys = list(models[0].settings)
    wholes = [key.removesuffix(".name") for key in keys if key in PARTS]
    wholes += [key for key in keys if any(other.startswith(f"{key}.") for other in keys)]
    told = [next((whole for whole in wholes if f"{key}.".startswith(f"{whole}.")), key) for key in keys]
    return [f"The recipes differ in {_some(list(dict.fromkeys(told)))}."] if len(keys) > 1 else []


def _some(keys: Sequence[str]) -> str:
    shown = [*keys[:NAMED], *([f"{len(keys) - NAMED} more"] if len(keys) > NAMED else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
