"""Images that stand in both splits: held-out images that were trained on flatter every score.

Two images are the same where they are so pixel for pixel, whatever their labels; near-copies are not found.
Compared are 128 bits of a BLAKE2b hash.

Source: BLAKE2, RFC 7693, https://www.rfc-editor.org/rfc/rfc7693
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calmkit.data.bad_records import percent
from calmkit.data.digest import digest
from calmkit.images.corpus import ImageCorpus, Images


@dataclass(frozen=True)
class Overlap:
    """How many of the held-out images also stand among the training images."""

    shared: int
    images: int

    @property
    def share(self) -> float:
        """Of the held-out images, from 0 to 1."""
        return self.shared / self.images


def overlap(train: Images, valid: Images) -> Overlap:
    """Count them. Memory grows with the held-out images alone."""
    held_out = list(_hashes(valid))
    wanted = set(held_out)
    found = {one for one in _hashes(train) if one in wanted}
    return Overlap(sum(one in found for one in held_out), len(held_out))


def leak_notes(corpus: ImageCorpus, leaked: Overlap) -> list[str]:
    """That held-out images of a corpus also stand among its training images, where some do."""
    if not leaked.shared:
        return []
    share = f"{percent(leaked.share)} ({leaked.shared} of {leaked.images})"
    return [
        f"of the held-out images, {share} also stand among the training images ({corpus.source('train')}; "
        f"held out: {corpus.source('valid')}), pixel for pixel: scores on them reward learning by heart and "
        f"flatter the model. Hold out images that are not trained on: {corpus.apart}"
    ]


def _hashes(images: Images) -> Iterator[str]:
    return (digest(np.ascontiguousarray(image).tobytes()) for image in images.pixels)
