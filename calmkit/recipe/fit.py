"""Do the parts of a recipe go together? Each check yields what is wrong, and nothing where all is well."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calmkit.interfaces import Autoencoder, Embedder, GenerativeHead, IterativeHead, Sampler
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


def length_fits(recipe: Recipe, autoencoder: Autoencoder) -> Iterator[Problem]:
    """CK140: the sequence length is a multiple of the chunk size."""
    length, chunk, key = recipe.data.sequence_length, autoencoder.chunk_size, "data.sequence_length"
    if length % chunk:
        below = length // chunk * chunk
        message = f"{key} {length} is no multiple of the autoencoder's chunk size {chunk}"
        near = f"{below} or {below + chunk}" if below else f"{chunk}"
        yield Problem("CK140", message, recipe.source.mark(key), key, f"the nearest: {near}")


def head_fits(recipe: Recipe, manager: Manager, autoencoder: Autoencoder) -> Iterator[Problem]:
    """CK141: the head takes the kind of event that the autoencoder gives."""
    kind, takes = autoencoder.event.kind, _head(manager, recipe.head.name).info.events
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
    recipe: Recipe, manager: Manager, sampler: Sampler, built: GenerativeHead | None
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


def _setting_named(recipe: Recipe, sampler: Sampler, message: str) -> str:
    """The key of the first option that a head's refusal names, of those that the sampler set; else of any."""
    asked = sampler.options.set_fields() - {"generator"}
    words = ["solver" if word == "scheduler" else word for word in re.findall(r"\w+", message)]
    named = next((word for word in [*words, *sorted(asked, reverse=True)] if word in asked), None)
    return _setting_of(recipe, named) if named else "sampler"


def _head(manager: Manager, name: str) -> type[GenerativeHead]:
    return manager.find("heads", name).cls
