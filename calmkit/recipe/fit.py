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
    Conditioner,
    DensityHead,
    Embedder,
    EventSpec,
    GenerativeHead,
    IterativeHead,
    Order,
    RowSampler,
    Sampler,
    WeighingSampler,
    WeightedHead,
)
from calmkit.recipe.dump import as_dict
from calmkit.recipe.errors import Problem
from calmkit.recipe.named_parts import dense_heads, head_class, named_parts
from calmkit.recipe.runs_named import CELL, runs_named
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
    kind, takes = event.kind, head_class(manager, recipe.head.name).info.events
    if kind not in takes:
        heads = sorted(
            name for name in manager.parts["heads"] if kind in head_class(manager, name).info.events
        )
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
    info = head_class(manager, name).info
    if info.needs_memory:
        message = (
            f"head '{name}' reads the whole past (its HeadInfo.needs_memory is true), which no backbone of "
            "calmkit hands on and generation does not feed back"
        )
        others = sorted(n for n in manager.parts["heads"] if not head_class(manager, n).info.needs_memory)
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
    info = head_class(manager, head).info if built is None else built.info
    honoured = info.options
    if isinstance(sampler, WeighingSampler) and not issubclass(head_class(manager, head), WeightedHead):
        message = (
            f"sampler '{recipe.sampler.name}' goes by the weights of what a draw is picked from, and head "
            f"'{head}' knows none"
        )
        known = named_parts(manager, "heads", WeightedHead)
        help = f"heads with known weights: {known}; sampler=vote works from draws alone"
        yield Problem("CK143", message, recipe.source.mark("sampler.name"), "sampler", help)
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
        lone = option == "temperature" and info.temperature == "none"
        why = ", which has no temperature of its own" if lone else ""
        yield Problem(
            "CK143",
            f"sampler '{recipe.sampler.name}' asks for '{option}', not honoured by head '{head}'{why}",
            recipe.source.mark(key),
            key,
            f"options of head '{head}': {takes}; {key}=null asks for nothing",
        )


def order_fits(
    recipe: Recipe,
    manager: Manager,
    backbone: Backbone | AnyOrderBackbone,
    order: Order | None,
    *,
    event: EventSpec,
    sizes: Mapping[str, Any],
) -> Iterator[Problem]:
    """CK141: the order goes with the backbone, and the head knows the density that the order asks for."""
    name, reads = recipe.backbone.name, "any" if isinstance(backbone, AnyOrderBackbone) else "causal"
    dense = issubclass(head_class(manager, recipe.head.name), DensityHead)
    orders: list[tuple[str, Any]] = sorted((n, part.cls) for n, part in manager.parts["orders"].items())
    fitting = [n for n, cls in orders if cls.reads == reads and (dense or not cls.needs_density)]
    help = f"orders that fit '{name}' and head '{recipe.head.name}': {', '.join(fitting) or 'none'}"
    if order is None and reads == "any":
        message = f"backbone '{name}' reads units in any order, and the recipe names none"
        yield Problem("CK141", message, recipe.source.mark("backbone.name"), "order", help)
    if order is None or recipe.order is None:
        return
    key, mark = "order", recipe.source.mark("order.name")
    if order.reads != reads:
        kind, told = {
            "any": (AnyOrderBackbone, "a backbone of any order"),
            "causal": (Backbone, "a causal backbone"),
        }[order.reads]
        message = f"order '{recipe.order.name}' wants {told}, and '{name}' is none"
        others = named_parts(manager, "backbones", kind, sizes)
        yield Problem("CK141", message, mark, key, f"{help}; backbones that fit this order: {others}")
    if order.needs_density and not dense:
        heads = dense_heads(manager, event.kind)
        message = (
            f"order '{recipe.order.name}' keeps the draws that are most likely, and head "
            f"'{recipe.head.name}' knows no density"
        )
        yield Problem("CK141", message, mark, key, f"heads that do: {heads}; {help}")


def condition_fits(recipe: Recipe, manager: Manager, sizes: Mapping[str, Any]) -> Iterator[Problem]:
    """CK141: the data have the conditions that the conditioner reads."""
    if recipe.conditioner is None:
        return
    cls: type[Conditioner] = manager.find("conditioners", recipe.conditioner.name).cls
    lacking = [name for name in cls.reads if name not in sizes.get("conditions", ())]
    if lacking:
        name, corpus = recipe.conditioner.name, recipe.data.part.name
        message = f"conditioner '{name}' reads {' and '.join(lacking)}, which data '{corpus}' don't have"
        mark, help = recipe.source.mark("conditioner.name"), f"data with {' and '.join(lacking)}"
        yield Problem("CK141", message, mark, "conditioner", f"conditioner=null, or {help}")


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


def runs_are_there(recipe: Recipe, manager: Manager) -> Iterator[Problem]:
    """CK146: every run that a recipe begins with exists; those of a study's cells need not exist yet."""
    for key, said in runs_named(recipe, manager).items():
        if said.startswith(CELL):
            if not recipe.source.cells:
                message = f"{key} '{said}' names a cell of a study, and this recipe is no part of one"
                yield Problem("CK146", message, recipe.source.mark(key), key, "name a run folder")
        elif not Path(said).exists():
            message = f"{key} '{said}' is not there"
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
