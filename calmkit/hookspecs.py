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
        Autoencoder,
        Backbone,
        Corpus,
        Embedder,
        GenerativeHead,
        Launcher,
        Measure,
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
def calmkit_embedders() -> dict[str, type[Embedder]]:  # type: ignore[empty-body]
    """Embedders: what the backbone reads of a unit."""


@hookspec
def calmkit_backbones() -> dict[str, type[Backbone]]:  # type: ignore[empty-body]
    """Backbones: from the units so far to the condition of the next."""


@hookspec
def calmkit_heads() -> dict[str, type[GenerativeHead]]:  # type: ignore[empty-body]
    """Heads: p(z | context)."""


@hookspec
def calmkit_samplers() -> dict[str, type[Sampler]]:  # type: ignore[empty-body]
    """Samplers: one unit among a head's draws."""


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
