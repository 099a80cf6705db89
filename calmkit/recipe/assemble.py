"""From a recipe to a model, and the refusal of one that cannot be trained. Nothing here reads data or trains.

The parts meet in `calmkit.model`; this room only hands them their sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calmkit.interfaces import Autoencoder, Backbone, Embedder, GenerativeHead, Sampler
from calmkit.model import CalmModel
from calmkit.recipe.errors import Problem, RecipeError
from calmkit.recipe.fit import (
    embedder_fits,
    head_fits,
    head_is_served,
    length_fits,
    numbers_are_finite,
    runs_are_there,
    sampler_fits,
    stages_fit,
)
from calmkit.recipe.parts import (
    build_corpus,
    build_metrics,
    build_part,
    build_tokenizer,
    vocab_size_of,
)
from calmkit.recipe.schema import Recipe
from calmkit.recipe.shapes_only import shapes_only
from calmkit.registry import Manager


def assemble(recipe: Recipe, manager: Manager, vocab_size: int, eos_id: int) -> CalmModel:
    """The model of a recipe, freshly initialised from torch's default generator.

    Args:
        recipe: What to build.
        manager: Where parts are looked up.
        vocab_size: V of the tokenizer that is ready.
        eos_id: Its id of end-of-text.

    Raises:
        RecipeError: CK140 to CK142, CK145: parts that refuse their settings, or do not go together.
    """
    autoencoder: Autoencoder = build_part(recipe, manager, "autoencoder", vocab_size=vocab_size)
    backbone: Backbone = build_part(recipe, manager, "backbone")
    problems = [
        *length_fits(recipe, autoencoder),
        *head_fits(recipe, manager, autoencoder),
        *embedder_fits(recipe, manager, autoencoder),
    ]
    if problems:
        raise RecipeError(problems)
    sizes = sizes_of(autoencoder, backbone, vocab_size)
    embedder: Embedder = build_part(recipe, manager, "embedder", **sizes)
    head: GenerativeHead = build_part(recipe, manager, "head", **sizes)
    return CalmModel(autoencoder, embedder, backbone, head, eos_id=eos_id, predict_first=recipe.predict_first)


def sizes_of(autoencoder: Autoencoder, backbone: Backbone, vocab_size: int) -> dict[str, Any]:
    """What the assembler hands to parts, by the names of `calmkit.registry.KINDS`."""
    return {
        "hidden_dim": backbone.hidden_dim,
        "event": autoencoder.event,
        "chunk_size": autoencoder.chunk_size,
        "vocab_size": vocab_size,
    }


def build_sampler(recipe: Recipe, manager: Manager, head: GenerativeHead | None = None) -> Sampler:
    """The sampler of a recipe.

    Args:
        recipe: What to build.
        manager: Where parts are looked up.
        head: Of the recipe, with or without numbers, to be asked whether it can do what the sampler asks for;
            None: only what its class states is checked.

    Raises:
        RecipeError: CK145 it refuses its settings, CK143 the head does not honour what it asks for.
    """
    sampler: Sampler = build_part(recipe, manager, "sampler")
    problems = [*sampler_fits(recipe, manager, sampler, head)]
    if problems:
        raise RecipeError(problems)
    return sampler


def validate(recipe: Recipe, manager: Manager, *, elsewhere: bool = False) -> CalmModel:
    """Refuse a recipe that cannot be trained, before any data is read.

    A tokenizer whose `vocab_size` the recipe states is not read either.

    Args:
        recipe: What to check.
        manager: Where parts are looked up.
        elsewhere: It is meant for another machine: the runs that it begins with may not be on this one.

    Returns:
        The model on the meta device: all shapes, no numbers.

    Raises:
        RecipeError: With all that is wrong, CK133, CK140 to CK146, CK148.
    """
    problems: list[Problem] = [*numbers_are_finite(recipe)]

    def gathered(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except RecipeError as error:
            problems.extend(error.problems)
            return None

    gathered(lambda: build_corpus(recipe, manager))
    model: CalmModel | None = gathered(lambda: _model_of_shapes(recipe, manager))
    gathered(lambda: build_sampler(recipe, manager, None if model is None else model.head))
    gathered(lambda: build_metrics(recipe, manager))
    problems += head_is_served(recipe, manager)
    problems += [] if elsewhere else runs_are_there(recipe)
    if model is not None:
        problems += stages_fit(recipe, model.autoencoder)
    if problems or model is None:
        raise RecipeError(problems)
    return model


def _model_of_shapes(recipe: Recipe, manager: Manager) -> CalmModel:
    vocab_size = vocab_size_of(recipe, build_tokenizer(recipe, manager))
    with shapes_only():
        return assemble(recipe, manager, vocab_size, eos_id=0)  # no shape depends on which id that is
