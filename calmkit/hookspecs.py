"""All doors of the house at once: one empty, documented hook per kind of part.

A plugin is a module (or any object) with one or more of these functions, marked with `hookimpl`, and an
entry point in the group `calmkit` that names it. Each returns a mapping from the name used in recipes to the
class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from calmkit.interfaces import (
        AnyOrderBackbone,
        Autoencoder,
        Backbone,
        Conditioner,
        Corpus,
        DataKind,
        Embedder,
        GenerativeHead,
        LatentTransform,
        Launcher,
        Measure,
        Objective,
        Order,
        RowSampler,
        Sampler,
        Tokenizer,
    )

PROJECT = "calmkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def calmkit_autoencoders() -> dict[str, type[Autoencoder]]:  # type: ignore[empty-body]
    """Autoencoders: between the data of a unit and its value."""


@hookspec
def calmkit_transforms() -> dict[str, type[LatentTransform]]:  # type: ignore[empty-body]
    """Transforms: between an autoencoder's values and those that the model reads and predicts."""


@hookspec
def calmkit_conditioners() -> dict[str, type[Conditioner]]:  # type: ignore[empty-body]
    """Conditioners: what stands before the first unit."""


@hookspec
def calmkit_orders() -> dict[str, type[Order]]:  # type: ignore[empty-body]
    """Orders: which units are drawn next."""


@hookspec
def calmkit_embedders() -> dict[str, type[Embedder]]:  # type: ignore[empty-body]
    """Embedders: what the backbone reads of a unit."""


@hookspec
def calmkit_backbones() -> dict[str, type[Backbone | AnyOrderBackbone]]:  # type: ignore[empty-body]
    """Backbones: from the units that are known to the condition of others."""


@hookspec
def calmkit_heads() -> dict[str, type[GenerativeHead]]:  # type: ignore[empty-body]
    """Heads: p(z | context)."""


@hookspec
def calmkit_objectives() -> dict[str, type[Objective]]:  # type: ignore[empty-body]
    """Objectives: what stage 2 makes smaller."""


@hookspec
def calmkit_samplers() -> dict[str, type[Sampler | RowSampler]]:  # type: ignore[empty-body]
    """Samplers: one unit among a head's draws, or whole rows."""


@hookspec
def calmkit_data_kinds() -> dict[str, type[DataKind]]:  # type: ignore[empty-body]
    """Kinds of data: what a run is about."""


@hookspec
def calmkit_corpora() -> dict[str, type[Corpus]]:  # type: ignore[empty-body]
    """Corpora: where documents come from."""


@hookspec
def calmkit_tokenizers() -> dict[str, type[Tokenizer]]:  # type: ignore[empty-body]
    """Tokenizers: between text and ids."""


@hookspec
def calmkit_launchers() -> dict[str, type[Launcher]]:  # type: ignore[empty-body]
    """Launchers: how the processes of a study are started."""


@hookspec
def calmkit_metrics() -> dict[str, type[Measure]]:  # type: ignore[empty-body]
    """Metrics: numbers about a model on held-out text, with their words and their direction."""
