"""Do the parts of a recipe go together? Each check yields what is wrong, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from calmkit.interfaces import Autoencoder, Embedder, GenerativeHead, Sampler
from calmkit.recipe.errors import Problem
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager


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


def embedder_fits(recipe: Recipe, manager: Manager, autoencoder: Autoencoder) -> Iterator[Problem]:
    """CK142: an embedder that reads latents has some to read."""
    cls: type[Embedder] = manager.find("embedders", recipe.embedder.name).cls
    if cls.reads == "latents" and autoencoder.event.kind == "tokens":
        yield Problem(
            "CK142",
            f"embedder '{recipe.embedder.name}' reads latents, "
            f"autoencoder '{recipe.autoencoder.name}' has none",
            recipe.source.mark("embedder.name"),
            "embedder",
            "embedder=tokens reads the ids",
        )


def sampler_fits(recipe: Recipe, manager: Manager, sampler: Sampler) -> Iterator[Problem]:
    """CK143: the head honours what the sampler asks of it."""
    head = recipe.head.name
    honoured = _head(manager, head).info.options
    for option in sorted(sampler.options.set_fields() - honoured):
        key = f"sampler.{option}" if option in recipe.sampler.options else "sampler"
        takes = ", ".join(sorted(honoured - {"generator"})) or "none"
        yield Problem(
            "CK143",
            f"sampler '{recipe.sampler.name}' asks for '{option}', not honoured by head '{head}'",
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


def _head(manager: Manager, name: str) -> type[GenerativeHead]:
    return manager.find("heads", name).cls
