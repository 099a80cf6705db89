"""From a corpus to two splits of decoded images: what a run does once, before it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from calmkit.data.digest import digest
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.images.image_file import decoded
from calmkit.images.overlap import Overlap, leak_notes, overlap


@final
@dataclass(frozen=True)
class PreparedImages:
    """Both splits, decoded.

    Attributes:
        fingerprint: Of the images, their labels and their split.
        leaked: The held-out images that also stand among the training images.
        skipped_notes: What was left out, a line each.
        leak_notes: What leaks, a line, where something does.
    """

    train: Images
    valid: Images
    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...]
    fingerprint: str
    leaked: Overlap
    skipped_notes: tuple[str, ...]
    leak_notes: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a person must know of the images."""
        return self.skipped_notes + self.leak_notes


def prepare_images(corpus: ImageCorpus, cache: Path) -> PreparedImages:
    """Decode both splits, or take from the cache what was done before.

    Args:
        corpus: The images.
        cache: See `calmkit.data.prepare.default_cache`.

    Raises:
        DataError: A split is empty, or anything `ImageCorpus.images` refuses.
    """
    train, valid = decoded(corpus, "train", cache), decoded(corpus, "valid", cache)
    leaked = overlap(train, valid)
    notes = [*corpus.notes("train", train.skipped), *corpus.notes("valid", valid.skipped)]
    return PreparedImages(
        train,
        valid,
        corpus.image_shape,
        corpus.label_names,
        digest(corpus.identity()),
        leaked,
        tuple(dict.fromkeys(notes)),  # where both sides stand in the same files, once
        tuple(leak_notes(corpus, leaked)),
    )
