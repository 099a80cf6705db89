"""calmkit: continuous autoregressive models, composed, trained, sampled, measured and compared.

    recipe = calmkit.load_recipe("tiny/energy", overrides=["head=flow"])
    run = calmkit.train(recipe)
    model = calmkit.load(run.folder)
    print(model.generate("The list "))

Everything here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calmkit.model import CalmModel as CalmModel
    from calmkit.recipe.load import load_recipe as load_recipe
    from calmkit.recipe.schema import Recipe as Recipe
    from calmkit.registry import make_manager as make_manager
    from calmkit.sharing.load import load as load
    from calmkit.studies.compare import compare as compare
    from calmkit.studies.run import run_study as run_study
    from calmkit.text.generation import TextModel as TextModel
    from calmkit.training.evaluate import evaluate as evaluate
    from calmkit.training.run import Run as Run
    from calmkit.training.train import train as train

_HOMES = {
    "CalmModel": "calmkit.model:CalmModel",
    "Recipe": "calmkit.recipe.schema:Recipe",
    "Run": "calmkit.training.run:Run",
    "TextModel": "calmkit.text.generation:TextModel",
    "compare": "calmkit.studies.compare:compare",
    "evaluate": "calmkit.training.evaluate:evaluate",
    "load": "calmkit.sharing.load:load",
    "load_recipe": "calmkit.recipe.load:load_recipe",
    "make_manager": "calmkit.registry:make_manager",
    "run_study": "calmkit.studies.run:run_study",
    "train": "calmkit.training.train:train",
}

__all__ = [
    "CalmModel",
    "Recipe",
    "Run",
    "TextModel",
    "compare",
    "evaluate",
    "load",
    "load_recipe",
    "make_manager",
    "run_study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'calmkit' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
