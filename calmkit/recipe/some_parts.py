"""Some parts of stage 2 alone: which of them learn, and which begin with the weights of another run.

A frozen part is frozen as the autoencoder is, in all three senses: no gradient, hence no optimiser entry, and
eval mode that survives `model.train()`. Gradients still go through it to the parts in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from calmkit.model import CalmModel
from calmkit.recipe.errors import Problem
from calmkit.recipe.schema import Recipe

KEY = "stages.lm"


def freeze_parts(recipe: Recipe, model: CalmModel) -> None:
    """Freeze those of a model that its recipe names."""
    stage = recipe.stages.lm
    for name in () if stage is None else stage.freeze:
        if getattr(recipe, name) is not None:
            model.get_submodule(name).requires_grad_(False).eval()


def some_parts_fit(recipe: Recipe, model: CalmModel) -> Iterator[Problem]:
    """CK133: the parts that `freeze` and `init_parts` name are there, and something is left to learn."""
    stage = recipe.stages.lm
    if stage is None:
        return
    for setting, parts in (("freeze", stage.freeze), ("init_parts", stage.init_parts)):
        key = f"{KEY}.{setting}"
        mark, there = recipe.source.mark(key), [name for name, _ in model.named_children()]
        for name in parts:
            if name not in there:
                message = f"{key} names '{name}', and this recipe has none"
                help = f"leave it out; parts of this recipe: {', '.join(there[1:])}"
                yield Problem("CK133", message, mark, key, help)
    if stage.init_parts and stage.init_from is None:
        key = f"{KEY}.init_parts"
        message = f"{key} says what is taken of another run, and {KEY}.init_from names none"
        yield Problem("CK133", message, recipe.source.mark(key), key, f"name a run folder as {KEY}.init_from")
    if stage.freeze and not any(p.requires_grad for p in model.parameters()):
        key = f"{KEY}.freeze"
        message = f"{key} leaves nothing to learn: all parts that have weights are frozen"
        yield Problem("CK133", message, recipe.source.mark(key), key, "leave one part out")
