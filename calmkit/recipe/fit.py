"""Do the parts of a recipe go together? Each check yields what is wrong, and nothing where all is well."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calmkit.interfaces import (
    AnyOrderBackbone,
    Autoencoder,
    Backbone,
    DensityHead,
    Embedder,
    EventSpec,
    GenerativeHead,
    IterativeHead,
    Order,
    RowSampler,
    Sampler,
    UnitwiseAutoencoder,
)
from calmkit.model import CalmModel
from calmkit.recipe.dump import as_dict
from calmkit.recipe.errors import Problem
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager

HALF_WEIGHTS = {"bf16-true": "bf16-mixed", "16-true": "16-mixed"}
"""Precisions that make weights half, and what computes as fast with weights in float32."""


def numbers_are_finite(recipe: Recipe) -> Iterator[Problem]:
    """CK133: a file can't say infinity, and neither may a recipe made in Python or a part's own default."""
    for key, value in _values(as_dict(recipe)):
        if isinstance(value, float) and not math.isfinite(value):
            message = f"{key} must be a finite number, got '{value}'"
            yield Problem("CK133", message, recipe.source.mark(key), key, f"give {key} a number")


def head_fits(recipe: Recipe, manager: Manager, event: EventSpec) -> Iterator[Problem]:
    """CK141: the head takes the kind of event that the autoencoder gives."""
    kind, takes = event.kind, _head(manager, recipe.head.name).info.events
    if kind not in takes:
        heads = sorted(name for name in manager.parts["heads"] if kind in _head(manager, name).info.events)
        yield Problem(
            "CK141",
            f"head '{recipe.head.name}' takes {' and '.join(sorted(takes))} events, "
            f"autoencoder '{recipe.autoencoder.name}' gives {kind}",
            recipe.source.mark("head.name"),
            "head",
            f"heads that take {kind}: {', '.join(heads) or 'none'}",
        )


def head_is_served(recipe: Recipe, manager: Manager) -> Iterator[Problem]:
    """CK148: what the head's facts ask of its callers can be given: no memory, float32 where it must be."""
    name, precision, key = recipe.head.name, recipe.trainer.precision, "trainer.precision"
    info = _head(manager, name).info
    if info.needs_memory:
        message = (
            f"head '{name}' reads the whole past (its HeadInfo.needs_memory is true), which no backbone of "
            "calmkit hands on and generation does not feed back"
        )
        others = sorted(n for n in manager.parts["heads"] if not _head(manager, n).info.needs_memory)
        help = f"heads that read the condition alone: {', '.join(others) or 'none'}"
        yield Problem("CK148", message, recipe.source.mark("head.name"), "head", help)
    if precision in HALF_WEIGHTS and not info.half_precision:
        message = (
            f"{key} {precision} makes the weights of head '{name}' half, which it does not hold in "
            "(its HeadInfo.half_precision is false)"
        )
        help = f"{HALF_WEIGHTS[precision]} keeps the weights in float32 and calls this head in float32"
        yield Problem("CK148", message, recipe.source.mark(key), key, help)


def embedder_fits(recipe: Recipe, manager: Manager, autoencoder: Autoencoder) -> Iterator[Problem]:
    """CK142: an embedder that reads latents has some to read."""
    cls: type[Embedder] = manager.find("embedders", recipe.embedder.name).cls
    if cls.reads != "data" and autoencoder.event.kind == "tokens":
        yield Problem(
            "CK142",
            f"embedder '{recipe.embedder.name}' reads latents, "
            f"autoencoder '{recipe.autoencoder.name}' has none",
            recipe.source.mark("embedder.name"),
            "embedder",
            "embedder=tokens reads the ids",
        )


def sampler_fits(
    recipe: Recipe, manager: Manager, sampler: Sampler | RowSampler, built: GenerativeHead | None
) -> Iterator[Problem]:
    """CK143: the head honours what the sampler asks of it, and an iterative one that is built can do it."""
    head, asked = recipe.head.name, sampler.options.set_fields()
    honoured = _head(manager, head).info.options
    if asked and asked <= honoured and isinstance(built, IterativeHead):
        try:
            built.network_calls(sampler.options)
        except ValueError as error:
            key = _setting_named(recipe, sampler, str(error))
            told = str(error).removeprefix(f"{head}: ")
            message = f"sampler '{recipe.sampler.name}' asks head '{head}' for what it can't do: {told}"
            yield Problem("CK143", message, recipe.source.mark(key), key)
    for option in sorted(asked - honoured):
        key = _setting_of(recipe, option)
        takes = ", ".join(sorted(honoured - {"generator"})) or "none"
        lone = option == "temperature" and _head(manager, head).info.temperature == "none"
        why = ", which has no temperature of its own" if lone else ""
        yield Problem(
            "CK143",
            f"sampler '{recipe.sampler.name}' asks for '{option}', not honoured by head '{head}'{why}",
            recipe.source.mark(key),
            key,
            f"options of head '{head}': {takes}; {key}=null asks for nothing",
        )


def order_fits(
    recipe: Recipe, manager: Manager, backbone: Backbone | AnyOrderBackbone, order: Order | None
) -> Iterator[Problem]:
    """CK141: the order goes with the backbone, and the head knows the density that the order asks for."""
    name, reads = recipe.backbone.name, "any" if isinstance(backbone, AnyOrderBackbone) else "causal"
    orders = manager.parts["orders"]
    if order is None and reads == "any":
        fitting = sorted(n for n, part in orders.items() if part.cls.reads == "any")
        message = f"backbone '{name}' reads units in any order, and the recipe names none"
        mark, help = recipe.source.mark("backbone.name"), f"order={fitting[0] if fitting else '...'}"
        yield Problem("CK141", message, mark, "order", help)
    if order is None or recipe.order is None:
        return
    key, mark = "order", recipe.source.mark("order.name")
    if order.reads != reads:
        fitting = sorted(n for n, part in orders.items() if part.cls.reads == reads)
        told = {"any": "wants a backbone of any order", "causal": "wants a causal backbone"}[order.reads]
        message = f"order '{recipe.order.name}' {told}, and '{name}' is none"
        yield Problem(
            "CK141", message, mark, key, f"orders that fit '{name}': {', '.join(fitting) or 'none'}"
        )
    if order.needs_density and not issubclass(_head(manager, recipe.head.name), DensityHead):
        heads = sorted(n for n in manager.parts["heads"] if issubclass(_head(manager, n), DensityHead))
        message = (
            f"order '{recipe.order.name}' keeps the draws that are most likely, and head "
            f"'{recipe.head.name}' knows no density"
        )
        yield Problem("CK141", message, mark, key, f"heads that do: {', '.join(heads)}; or order=random")


def drawing_fits(recipe: Recipe, manager: Manager, model: CalmModel) -> Iterator[Problem]:
    """CK143: the sampler can draw what these parts make."""
    name, cls = recipe.sampler.name, manager.find("samplers", recipe.sampler.name).cls
    mark = recipe.source.mark("sampler.name")
    if issubclass(cls, Sampler) and not isinstance(model.autoencoder, UnitwiseAutoencoder):
        rows = sorted(n for n, part in manager.parts["samplers"].items() if issubclass(part.cls, RowSampler))
        message = (
            f"sampler '{name}' chooses among draws of single units, and autoencoder "
            f"'{recipe.autoencoder.name}' decodes whole rows only"
        )
        yield Problem("CK143", message, mark, "sampler", f"samplers of rows: {', '.join(rows) or 'none'}")
        return
    if not issubclass(cls, RowSampler):
        return
    if model.layout is None:
        units = sorted(n for n, part in manager.parts["samplers"].items() if issubclass(part.cls, Sampler))
        message = f"sampler '{name}' draws rows of a fixed number of units, and these rows have none"
        yield Problem("CK143", message, mark, "sampler", f"samplers of units: {', '.join(units)}")
        return
    try:
        sampler: RowSampler = manager.build("samplers", name, recipe.sampler.options)
    except ValueError:  # told where the sampler is built
        return
    yield from _guidance_fits(recipe, sampler, model)
    if sampler.beams > 1 and not (
        isinstance(model.head, DensityHead) and isinstance(model.backbone, Backbone)
    ):
        message = (
            f"sampler '{name}' keeps the likeliest rows, which needs a head with a density and a causal "
            f"backbone; these are '{recipe.head.name}' and '{recipe.backbone.name}'"
        )
        yield Problem("CK143", message, mark, "sampler", "sampler=rows draws without beams")
    if model.order is not None:
        try:
            model.order.num_steps(math.prod(model.layout))
        except ValueError as error:
            order = recipe.source.mark("order.steps")
            yield Problem("CK143", f"order '{recipe.order and recipe.order.name}': {error}", order, "order")


def condition_fits(recipe: Recipe, manager: Manager, sizes: Mapping[str, Any]) -> Iterator[Problem]:
    """CK141: the data have the conditions that the conditioner reads."""
    if recipe.conditioner is None:
        return
    reads: tuple[str, ...] = manager.find("conditioners", recipe.conditioner.name).cls.reads
    lacking = [name for name in reads if name not in sizes.get("conditions", ())]
    if lacking:
        corpus = recipe.data.part.name
        name, wanted = recipe.conditioner.name, " and ".join(lacking)
        message = f"conditioner '{name}' reads {wanted}, which data '{corpus}' don't have"
        mark = recipe.source.mark("conditioner.name")
        yield Problem("CK141", message, mark, "conditioner", "conditioner=null, or data with labels")


def _guidance_fits(recipe: Recipe, sampler: RowSampler, model: CalmModel) -> Iterator[Problem]:
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
        message = f"head '{recipe.head.name}' can't be guided (its HeadInfo.guidance is none)"
        yield Problem("CK143", message, mark, key, help)


def stages_fit(recipe: Recipe, autoencoder: Autoencoder) -> Iterator[Problem]:
    """CK144: stage 1 is there exactly for an autoencoder with parameters."""
    name, stage, key = recipe.autoencoder.name, recipe.stages.autoencoder, "stages.autoencoder"
    trainable = any(True for _ in autoencoder.parameters())
    if stage is not None and not trainable:
        message = f"autoencoder '{name}' has no parameters, so it has no stage 1 and no gate"
        yield Problem("CK144", message, recipe.source.mark(key), key, "write stages.autoencoder=null")
    if stage is None and trainable:
        message = f"autoencoder '{name}' has parameters, but stages.autoencoder is null"
        help = (
            "give stages.autoencoder.max_steps, and stages.autoencoder.init_from to take a run's autoencoder"
        )
        yield Problem("CK144", message, recipe.source.mark(key), key, help)
    if recipe.stages.lm is None and not trainable:
        message = f"nothing to train: stages.lm is null and autoencoder '{name}' has no parameters"
        yield Problem("CK144", message, recipe.source.mark("stages.lm"), "stages.lm")


def runs_are_there(recipe: Recipe) -> Iterator[Problem]:
    """CK146: every `init_from` exists."""
    for stage in ("autoencoder", "lm"):
        section, key = getattr(recipe.stages, stage), f"stages.{stage}.init_from"
        if section is not None and section.init_from is not None and not Path(section.init_from).exists():
            message = f"{key} '{section.init_from}' is not there"
            yield Problem("CK146", message, recipe.source.mark(key), key, "name a run folder")


def _values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a recipe with its dotted key; those of a list under the list's."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _values(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for child in value:
            yield from _values(child, path)
    else:
        yield path, value


def _setting_of(recipe: Recipe, option: str) -> str:
    """The key of the sampler's setting behind an option of a draw."""
    # the sampler's setting for the head's temperature is head_temperature, beside one of its own
    given = [name for name in (f"head_{option}", option) if name in recipe.sampler.options]
    return f"sampler.{given[0]}" if given else "sampler"


def _setting_named(recipe: Recipe, sampler: Sampler | RowSampler, message: str) -> str:
    """The key of the first option that a head's refusal names, of those that the sampler set; else of any."""
    asked = sampler.options.set_fields() - {"generator"}
    words = ["solver" if word == "scheduler" else word for word in re.findall(r"\w+", message)]
    named = next((word for word in [*words, *sorted(asked, reverse=True)] if word in asked), None)
    return _setting_of(recipe, named) if named else "sampler"


def _head(manager: Manager, name: str) -> type[GenerativeHead]:
    return manager.find("heads", name).cls
