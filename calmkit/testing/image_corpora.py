"""The laws of corpora of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from calmkit.images.corpus import ImageCorpus, Images
from calmkit.interfaces import Split
from calmkit.testing import laws
from calmkit.testing.laws import Subject

SPLITS: tuple[Split, ...] = ("train", "valid")
SHAPE = "images are bytes of image_shape, and there are some"
LABELS = "labels are indices of label_names, and there where names are"
PLACES = "every image has a place of its own, in one split"
AGAIN = "another instance gives the same images under the same identity"
FLIP = "flip is true or false"
WORDS = "source and apart are words"


def check_image_corpus(part: str | type[ImageCorpus], **settings: Any) -> None:
    """Hold a corpus of images to its contract.

    Laws: constructor; images are bytes of `image_shape`, one channel or three, and no split is empty; labels
    are indices of `label_names`, and there where names are; every image has a place of its own, in one split;
    another instance gives the same images under the same identity; `flip` is true
    or false; `source` and `apart` are words.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the corpus; its splits must be of different files or of one.

    Raises:
        AssertionError: Naming corpus, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("corpora", part, settings)
        corpus: ImageCorpus = subject.build()
        found = _read(subject, corpus)
        for split, images in found.items():
            _check_shape(subject, corpus, split, images)
            _check_labels(subject, corpus, split, images)
        _check_places(subject, corpus, found)
        _check_again(subject, corpus, found)
        subject.require(isinstance(corpus.flip, bool), FLIP, f"it is {corpus.flip!r}")
        _check_words(subject, corpus)


@laws.law(SHAPE)
def _read(part: Subject, corpus: ImageCorpus) -> dict[Split, Images]:
    del part
    return {split: corpus.images(split) for split in SPLITS}


@laws.law(SHAPE)
def _check_shape(part: Subject, corpus: ImageCorpus, split: Split, images: Images) -> None:
    shape, pixels = corpus.image_shape, images.pixels
    part.require(len(shape) == 3 and shape[0] in (1, 3), SHAPE, f"image_shape is {shape}")
    part.require(pixels.dtype == np.uint8, SHAPE, f"pixels of {split} are {pixels.dtype}")
    seen = f"image_shape is {shape}, and pixels of {split} are {pixels.shape}"
    part.require(len(pixels) and pixels.shape[1:] == shape, SHAPE, seen)


@laws.law(LABELS)
def _check_labels(part: Subject, corpus: ImageCorpus, split: Split, images: Images) -> None:
    names, labels = corpus.label_names, images.labels
    seen = f"there are {len(names)} names, and labels of {split} are {'not ' if labels is None else ''}there"
    part.require((labels is None) == (not names), LABELS, seen)
    if labels is not None:
        seen = (
            f"labels of {split} run from {labels.min()} to {labels.max()}, and there are {len(names)} names"
        )
        part.require(labels.min() >= 0 and labels.max() < len(names), LABELS, seen)
        part.require(len(set(names)) == len(names), LABELS, f"one name stands twice: {names}")
        part.require(
            len(labels) == len(images), LABELS, f"{len(images)} images of {split} have {len(labels)} labels"
        )


@laws.law(PLACES)
def _check_places(part: Subject, corpus: ImageCorpus, found: dict[Split, Images]) -> None:
    told: dict[str, Split] = {}
    for split, images in found.items():
        seen = f"{len(images)} images of {split} have places of shape {images.places.shape}"
        part.require(images.places.shape == (len(images), 2), PLACES, seen)
        for file, number in images.places.tolist():
            words = corpus.place(split, file, number)
            part.require(words not in told, PLACES, f"'{words}' is of {told.get(words)} and again of {split}")
            told[words] = split


@laws.law(AGAIN)
def _check_again(part: Subject, corpus: ImageCorpus, found: dict[Split, Images]) -> None:
    other: ImageCorpus = part.build()
    for split in ("valid", "train"):  # the other way round: what was read before must not matter
        images, before = other.images(split), found[split]
        same = np.array_equal(images.pixels, before.pixels) and np.array_equal(images.places, before.places)
        labels = (images.labels is None) == (before.labels is None) and (
            images.labels is None or bool((images.labels == before.labels).all())
        )
        part.require(same and labels, AGAIN, f"the images of {split} differ")
    names = corpus.identity(), other.identity()
    part.require(names[0] == names[1], AGAIN, f"its identities are {names[0]} and {names[1]}")


@laws.law(WORDS)
def _check_words(part: Subject, corpus: ImageCorpus) -> None:
    said: dict[str, str] = {split: corpus.source(split) for split in SPLITS}
    for name, words in [*said.items(), ("apart", corpus.apart)]:
        part.require(isinstance(words, str) and words.strip(), WORDS, f"of {name} it says {words!r}")
