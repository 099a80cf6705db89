"""Do the lengths of a recipe of text fit its chunks?"""

from __future__ import annotations

from collections.abc import Iterator

from calmkit.interfaces import Autoencoder
from calmkit.recipe.errors import Problem
from calmkit.recipe.schema import Recipe
from calmkit.text.units import chunk_size_of


def length_fits(recipe: Recipe, autoencoder: Autoencoder) -> Iterator[Problem]:
    """CK140: the sequence length is a multiple of the chunk size."""
    length, chunk, key = recipe.data.length, chunk_size_of(autoencoder), "data.sequence_length"
    if length % chunk:
        below = length // chunk * chunk
        message = f"{key} {length} is no multiple of the autoencoder's chunk size {chunk}"
        near = f"{below} or {below + chunk}" if below else f"{chunk}"
        yield Problem("CK140", message, recipe.source.mark(key), key, f"the nearest: {near}")
