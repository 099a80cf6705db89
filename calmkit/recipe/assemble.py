"""From a recipe to a model, and the refusal of one that cannot be trained. Nothing here reads data or trains.

The parts meet in `calmkit.model`; this room only hands them their sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from calmkit.interfaces import (
    AnyOrderBackbone,
    Autoencoder,
    Backbone,
    Conditioner,
    Embedder,
    EventSpec,
    GenerativeHead,
    Order,
    RowSampler,
    Sampler,
    TokenAutoencoder,
)
from calmkit.model import CalmModel
from calmkit.recipe.errors import Problem, RecipeError
from calmkit.recipe.fit import (
    condition_fits,
    embedder_fits,
    head_fits,
    head_is_served,
    numbers_are_finite,
    order_fits,
    runs_are_there,
    sampler_fits,
    stages_fit,
)
from calmkit.recipe.fit_rows import drawing_fits, units_fit
from calmkit.recipe.objectives import objective_fits
from calmkit.recipe.parts import (
    build_corpus,
    build_metrics,
    build_part,
    build_transform,
    kind_of,
    refusals,
)
from calmkit.recipe.schema import Recipe
from calmkit.recipe.shapes_only import shapes_only
from calmkit.recipe.some_parts import freeze_parts, some_parts_fit
from calmkit.registry import Manager


def assemble(recipe: Recipe, manager: Manager, sizes: Mapping[str, Any]) -> CalmModel:
    """The model of a recipe, freshly initialised from torch's default generator.

    Args:
        recipe: What to build.
        manager: Where parts are looked up.
        sizes: What the kind of data knows, by name, such as the `vocab_size` of a tokenizer that is ready.

    Raises:
        RecipeError: CK140 to CK142, CK145: parts that refuse their settings, or do not go together.
    """
    autoencoder: Autoencoder = build_part(recipe, manager, "autoencoder", **sizes)
    transform = build_transform(recipe, manager, autoencoder)
    event = autoencoder.event if transform is None else transform.event
    layout = autoencoder.layout if transform is None else transform.layout
    of_data = dict(sizes) | ({} if layout is None else {"layout": layout})
    backbone: Backbone | AnyOrderBackbone = build_part(recipe, manager, "backbone", **of_data)
    order: Order | None = None if recipe.order is None else build_part(recipe, manager, "order")
    problems = [
        *kind_of(recipe, manager).problems(recipe, manager, autoencoder),
        *head_fits(recipe, manager, event),
        *embedder_fits(recipe, manager, autoencoder),
        *order_fits(recipe, manager, backbone, order, event=event, sizes=of_data),
        *condition_fits(recipe, manager, sizes),
    ]
    if problems:
        raise RecipeError(problems)
    known = sizes_of(autoencoder, backbone, event, sizes)
    embedder: Embedder = build_part(recipe, manager, "embedder", **known)
    conditioner: Conditioner | None = None
    if recipe.conditioner is not None:
        conditioner = build_part(recipe, manager, "conditioner", **known)
    head: GenerativeHead = build_part(recipe, manager, "head", **known)
    model = CalmModel(
        autoencoder,
        embedder,
        backbone,
        head,
        transform=transform,
        conditioner=conditioner,
        order=order,
        predict_first=recipe.predict_first,
    )
    freeze_parts(recipe, model)
    return model


def sizes_of(
    autoencoder: Autoencoder,
    backbone: Backbone | AnyOrderBackbone,
    event: EventSpec,
    sizes: Mapping[str, Any],
) -> dict[str, Any]:
    """What the assembler hands to parts, by the names of their `sizes`: what the data know, and what parts
    that are built already do.
    """
    unit = {}
    if isinstance(autoencoder, TokenAutoencoder):
        unit = {"chunk_size": autoencoder.chunk_size}
    return {**sizes, **unit, "hidden_dim": backbone.hidden_dim, "event": event}


def build_sampler(
    recipe: Recipe, manager: Manager, head: GenerativeHead | None = None
) -> Sampler | RowSampler:
    """The sampler of a recipe.

    Args:
        recipe: What to build.
        manager: Where parts are looked up.
        head: Of the recipe, with or without numbers, to be asked whether it can do what the sampler asks for;
            None: only what its class states is checked.

    Raises:
        RecipeError: CK145 it refuses its settings, CK143 the head does not honour what it asks for.
    """
    sampler: Sampler | RowSampler = build_part(recipe, manager, "sampler")
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
        RecipeError: With all that is wrong, CK131, CK133, CK140 to CK146, CK148, CK149.
    """
    problems: list[Problem] = [*numbers_are_finite(recipe)]

    def gathered(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except RecipeError as error:
            problems.extend(error.problems)
            return None

    gathered(lambda: build_corpus(recipe, manager))
    model: CalmModel | None = gathered(lambda: model_of_shapes(recipe, manager))
    gathered(lambda: build_sampler(recipe, manager, None if model is None else model.head))
    gathered(lambda: build_metrics(recipe, manager))
    problems += head_is_served(recipe, manager)
    problems += [] if elsewhere else runs_are_there(recipe, manager)
    if model is not None:
        problems += stages_fit(recipe, model.autoencoder)
        problems += drawing_fits(recipe, manager, model)
        problems += some_parts_fit(recipe, model)
        problems += [] if recipe.stages.lm is None else units_fit(recipe, manager, model)
        problems += _objective_problems(recipe, manager, model, elsewhere)
    if problems or model is None:
        raise RecipeError(problems)
    return model


def _objective_problems(recipe: Recipe, manager: Manager, model: CalmModel, elsewhere: bool) -> list[Problem]:
    if recipe.stages.lm is None:
        return []
    try:
        return [*objective_fits(recipe, manager, model, model_of_shapes, elsewhere=elsewhere)]
    except RecipeError as error:
        return list(error.problems)


def model_of_shapes(recipe: Recipe, manager: Manager) -> CalmModel:
    """The model of a recipe on the meta device: all shapes, no numbers.

    Raises:
        RecipeError: As `assemble`.
    """
    with refusals(recipe, "data"):
        sizes = kind_of(recipe, manager).known_sizes(recipe, manager)
    with shapes_only():
        return assemble(recipe, manager, sizes)
