"""Do a recipe's rows hold units enough, and can its sampler draw them? Each check yields what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator

from calmkit.interfaces import (
    Backbone,
    DensityHead,
    LatentTransform,
    PastReadingAutoencoder,
    RowSampler,
    Sampler,
    UnitwiseAutoencoder,
)
from calmkit.model import CalmModel
from calmkit.recipe.errors import Problem
from calmkit.recipe.named_parts import dense_heads, head_class, named_parts
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import ALONE, NOUNS, SECTIONS, TRANSFORMS, PartSpec, Recipe
from calmkit.registry import Manager
from calmkit.transforms.chain import Chain

FEWEST_UNITS = 2
"""Of a row: one, and another that it is predicted from."""


def units_fit(recipe: Recipe, manager: Manager, model: CalmModel) -> Iterator[Problem]:
    """CK149: a row is two units at least, or there is nothing to predict a unit from."""
    kind, layout = kind_of(recipe, manager), model.layout
    units = kind.num_units(recipe, model.autoencoder) if layout is None else math.prod(layout)
    if units >= FEWEST_UNITS:
        return
    if layout is None and recipe.data.sequence_length is not None:
        key, each = "data.sequence_length", kind.elements_per_row(recipe) / max(1, units)
        message = f"a row of {recipe.data.sequence_length} {kind.words.element}s is {units} unit"
        help = f"raise {key}; {FEWEST_UNITS * each:g} would do"
        mark = recipe.source.mark(key)
    else:
        key, part, had = _whoever_leaves_too_few(recipe, model)
        kinds, noun = {**SECTIONS, **ALONE}[key], NOUNS.get(key, key)
        message = f"{noun} '{part.name}' makes {units} unit {had}"
        settings = sorted(manager.find(kinds, part.name).settings)
        help = f"a smaller unit; settings of {noun} '{part.name}': {', '.join(settings) or 'none'}"
        mark = recipe.source.mark(key if key == TRANSFORMS else f"{key}.name")
    yield Problem("CK149", f"{message}, with nothing to predict it from", mark, key, help)


def _whoever_leaves_too_few(recipe: Recipe, model: CalmModel) -> tuple[str, PartSpec, str]:
    """The first part after which a row has too few units: its section, itself, and what it made them of."""
    layout = model.autoencoder.layout
    transforms = [*model.transform.transforms] if isinstance(model.transform, Chain) else []
    if layout is None or math.prod(layout) >= FEWEST_UNITS:
        for spec, transform in zip(recipe.transforms, transforms, strict=True):
            assert isinstance(transform, LatentTransform)
            before, layout = layout, transform.layout
            if layout is not None and math.prod(layout) < FEWEST_UNITS:
                units = f"{' x '.join(map(str, before))} units" if before else "units"
                return TRANSFORMS, spec, f"of a row of {units}"
    return "autoencoder", recipe.autoencoder, f"of a row of data '{recipe.data.part.name}'"


def drawing_fits(recipe: Recipe, manager: Manager, model: CalmModel) -> Iterator[Problem]:
    """CK143: the sampler can draw what these parts make."""
    name, cls = recipe.sampler.name, manager.find("samplers", recipe.sampler.name).cls
    mark = recipe.source.mark("sampler.name")
    if issubclass(cls, Sampler) and not isinstance(model.autoencoder, UnitwiseAutoencoder):
        message = (
            f"sampler '{name}' chooses among draws of single units, and autoencoder "
            f"'{recipe.autoencoder.name}' decodes whole rows only"
        )
        help = f"samplers of rows: {named_parts(manager, 'samplers', RowSampler)}"
        yield Problem("CK143", message, mark, "sampler", help)
        return
    if issubclass(cls, Sampler):
        yield from _comparing_fits(recipe, manager, model)
        return
    if model.layout is None:
        message = (
            f"sampler '{name}' draws rows of a fixed number of units, and those of data "
            f"'{recipe.data.part.name}' have none"
        )
        help = f"samplers of units: {named_parts(manager, 'samplers', Sampler)}"
        yield Problem("CK143", message, mark, "sampler", help)
        return
    if isinstance(model.autoencoder, PastReadingAutoencoder):
        message = (
            f"sampler '{name}' decodes rows when all their values are drawn, and autoencoder "
            f"'{recipe.autoencoder.name}' decodes a unit behind those before it"
        )
        help = f"samplers of units: {named_parts(manager, 'samplers', Sampler)}"
        yield Problem("CK143", message, mark, "sampler", help)
        return
    try:
        sampler: RowSampler = manager.build("samplers", name, recipe.sampler.options)
    except ValueError:  # told where the sampler is built
        return
    yield from _guidance_fits(recipe, manager, sampler, model)
    yield from _beams_fit(recipe, manager, sampler, model)
    yield from _rows_are_whole(recipe, model)


def _beams_fit(recipe: Recipe, manager: Manager, sampler: RowSampler, model: CalmModel) -> Iterator[Problem]:
    """CK143: the likeliest rows are found by a density, from left to right."""
    if sampler.beams == sampler.fan == 1:
        return
    name, mark = recipe.sampler.name, recipe.source.mark("sampler.name")
    if not isinstance(model.head, DensityHead):
        message = f"sampler '{name}' keeps the likeliest rows, and head '{recipe.head.name}' knows no density"
        heads = f"heads that do: {dense_heads(manager, model.event.kind)}; sampler=rows draws without beams"
        yield Problem("CK143", message, mark, "sampler", heads)
    if not isinstance(model.backbone, Backbone):
        message = (
            f"sampler '{name}' keeps rows side by side from left to right, and backbone "
            f"'{recipe.backbone.name}' reads units in any order"
        )
        others = f"causal backbones: {named_parts(manager, 'backbones', Backbone)}"
        yield Problem("CK143", message, mark, "sampler", f"{others}; sampler=rows draws without beams")


def _rows_are_whole(recipe: Recipe, model: CalmModel) -> Iterator[Problem]:
    """CK143: every unit of a row is trained and drawn, in no more steps than there are units."""
    assert model.layout is not None
    if model.order is not None and recipe.order is not None:
        name = recipe.order.name
        try:
            model.order.num_steps(math.prod(model.layout))
        except ValueError as error:
            message = f"order '{name}': {str(error).removeprefix(f'{name}: ')}"
            yield Problem("CK143", message, recipe.source.mark("order.steps"), "order.steps")
    if not recipe.predict_first:
        key, sampler = "predict_first", recipe.sampler.name
        message = f"{key}=false leaves the first unit untrained, and sampler '{sampler}' draws it"
        yield Problem("CK143", message, recipe.source.mark(key), key, f"{key}=true trains all units of a row")


def _comparing_fits(recipe: Recipe, manager: Manager, model: CalmModel) -> Iterator[Problem]:
    """CK143: a sampler that asks which draws are equal has units that can be."""
    name, cls = recipe.sampler.name, manager.find("samplers", recipe.sampler.name).cls
    autoencoder = model.autoencoder
    if cls.compares and isinstance(autoencoder, UnitwiseAutoencoder) and not autoencoder.discrete:
        message = (
            f"sampler '{name}' asks which draws of a unit are equal, and the units of autoencoder "
            f"'{recipe.autoencoder.name}' are real numbers, which never are"
        )
        units = {
            n: part.cls for n, part in manager.parts["samplers"].items() if issubclass(part.cls, Sampler)
        }
        others = sorted(n for n, one in units.items() if not one.compares)
        help = f"samplers of units that don't ask: {', '.join(others) or 'none'}"
        yield Problem("CK143", message, recipe.source.mark("sampler.name"), "sampler", help)


def _guidance_fits(
    recipe: Recipe, manager: Manager, sampler: RowSampler, model: CalmModel
) -> Iterator[Problem]:
    """CK143: guidance has a condition to drop, and a head that takes it."""
    if sampler.guidance.weight == 1:
        return
    key = "sampler.guidance"
    mark, weight = recipe.source.mark(key), f"guidance {sampler.guidance.weight:g}"
    help = f"{key}=1 is no guidance"
    if model.conditioner is None:
        message = f"sampler '{recipe.sampler.name}' asks for {weight}, and the recipe has no conditioner"
        yield Problem("CK143", message, mark, key, f"conditioner=label, where data have labels; {help}")
    elif not model.conditioner.drop:
        message = (
            f"{weight} pushes away from the null condition, which training never shows (conditioner.drop=0)"
        )
        yield Problem("CK143", message, mark, key, f"conditioner.drop=0.1; {help}")
    if model.head.info.guidance == "none":
        message = f"{weight}, and head '{recipe.head.name}' can't be guided (its HeadInfo.guidance is none)"
        event = model.event.kind
        heads = [
            n
            for n in sorted(manager.parts["heads"])
            if head_class(manager, n).info.guidance != "none" and event in head_class(manager, n).info.events
        ]
        yield Problem("CK143", message, mark, key, f"{help}; heads that can be: {', '.join(heads) or 'none'}")
