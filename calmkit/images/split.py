"""Train or valid, decided by a hash of each image's own content, class by class.

The order of images and their names don't matter, and copies of one image under one label land on the same
side, so that nothing that was trained on is evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int64

from calmkit.data.document_split import choose_valid
from calmkit.images.corpus import Images
from calmkit.interfaces import DataError, Split


def content_hash(content: bytes) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def held_out(
    hashes: Iterable[int], labels: Int64[np.ndarray, " N"] | None, fraction: float
) -> Bool[np.ndarray, " N"]:
    """Which images are for validation: of each class at most `fraction`, and nearly that, but one of each
    class that has two different ones.

    Raises:
        DataError: There are no two different images to split.
    """
    keys = list(hashes)
    classes = np.zeros(len(keys), dtype=np.int64) if labels is None else np.asarray(labels)
    chosen = np.zeros(len(keys), dtype=bool)
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        valid = choose_valid([(keys[i], 1) for i in members], fraction)
        chosen[members] = [keys[i] in valid for i in members]
    if keys and not chosen.any():
        raise DataError(
            "no class has two different images, so none can be held out; give more images, or a validation "
            "set of its own"
        )
    return chosen


def side(found: Images, split: Split, fraction: float) -> Images:
    """One side of images that stand together, decided by their pixels."""
    hashes = (content_hash(np.ascontiguousarray(image).tobytes()) for image in found.pixels)
    valid = held_out(hashes, found.labels, fraction)
    return found.at(valid if split == "valid" else ~valid)
