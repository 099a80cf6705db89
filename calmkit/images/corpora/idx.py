"""IDX files of your own: MNIST and all that is published in its format, plain or .gz.

Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.
http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import functools
from typing import ClassVar, final

import numpy as np

from calmkit.data.bad_records import MAX_BAD, OnBad, check_max_bad
from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction
from calmkit.hookspecs import hookimpl
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.images.idx_file import idx_shape, read_idx
from calmkit.images.known_labels import known_labels
from calmkit.images.paths import existing
from calmkit.images.split import side
from calmkit.interfaces import Corpus, DataError, Split


@final
class IdxCorpus(ImageCorpus):
    """Grey images and their labels from IDX files, the format of MNIST, plain or .gz.

    Args:
        train_images: Path of the images.
        train_labels: Path of their labels. None: they have none.
        valid_images: The same for validation. None: `valid_fraction` of the training images is held out.
        valid_labels: Labels of these.
        valid_fraction: Share of each class; without effect where `valid_images` is given.
        classes: Labels are 0 to `classes` - 1; without effect where there are none.
        on_bad: An image with another label is refused, or skipped, counted and told.
        max_bad: More than this share of the images of a file is refused all the same.
    """

    apart: ClassVar[str] = "data.valid_images=null holds out data.valid_fraction of the training images"

    def __init__(
        self,
        *,
        train_images: str,
        train_labels: str | None = None,
        valid_images: str | None = None,
        valid_labels: str | None = None,
        valid_fraction: float = 0.1,
        classes: int = 10,
        on_bad: OnBad = "refuse",
        max_bad: float = MAX_BAD,
    ) -> None:
        check_fraction("idx", valid_fraction)
        check_max_bad("idx", max_bad)
        if not 1 <= classes <= 256:
            raise ValueError(f"idx: classes must be 1 to 256, for a label is one byte, got {classes}")
        if valid_images is None and valid_labels is not None:
            raise ValueError("idx: valid_labels are given without valid_images; give both or neither")
        if valid_images is not None and (train_labels is None) != (valid_labels is None):
            raise ValueError("idx: one of train_labels and valid_labels is missing; give both or neither")
        self._files = {"train": (train_images, train_labels), "valid": (valid_images, valid_labels)}
        self.valid_fraction, self.classes = valid_fraction, classes
        self.on_bad, self.max_bad = on_bad, max_bad

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """By the header of the training images."""
        _, height, width = idx_shape(self._name("train")[0], "data.train_images", 3)
        return (1, height, width)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The numbers themselves."""
        return () if self._name("train")[1] is None else tuple(map(str, range(self.classes)))

    def images(self, split: Split) -> Images:
        """In the order of the file."""
        found = self._read(self._stands(split))
        if found.pixels.shape[1:] != self.image_shape:
            train, valid = self._name("train")[0], self._name("valid")[0]
            raise DataError(
                f"data.valid_images: {valid} holds images of {_size(found.pixels.shape[1:])}, and "
                f"data.train_images={train} of {_size(self.image_shape)}; give files that belong together"
            )
        return found if self._held_apart else side(found, split, self.valid_fraction)

    def identity(self) -> str:
        """By the content of all files, unpacked, not by their names."""
        return self._identity

    def source(self, split: Split) -> str:
        """The setting and its path."""
        stands = self._stands(split)
        return f"data.{stands}_images={self._name(stands)[0]}"

    def place(self, split: Split, file: int, number: int) -> str:
        """The file, and the image in it from 0."""
        del file
        return f"{self._name(self._stands(split))[0]}: image {number}"

    @property
    def _held_apart(self) -> bool:
        return self._files["valid"][0] is not None

    def _stands(self, split: Split) -> Split:
        """Where the images of a split stand: those held out of the training file stand in it."""
        return split if self._held_apart else "train"

    def _name(self, stands: Split) -> tuple[str, str | None]:
        images, labels = self._files[stands]
        assert images is not None
        return images, labels

    def _content(self, stands: Split) -> tuple[np.ndarray, np.ndarray | None]:
        """Images `[N, H, W]` and labels `[N]` of two files that belong together."""
        images_name, labels_name = self._name(stands)
        images = read_idx(images_name, f"data.{stands}_images", 3)
        if labels_name is None:
            return images, None
        labels = read_idx(labels_name, f"data.{stands}_labels", 1)
        if len(images) != len(labels):
            raise DataError(
                f"data.{stands}_images={images_name} holds {len(images)} images, and "
                f"data.{stands}_labels={labels_name} {len(labels)} labels; give files that belong together"
            )
        return images, labels

    def _read(self, stands: Split) -> Images:
        images, labels = self._content(stands)
        numbers = np.arange(len(images))
        places = np.stack([np.zeros_like(numbers), numbers], axis=1)
        found = Images(images[:, None], None, places)
        if labels is None:
            found.skipped.records = len(images)
            return found
        path = existing(self._name(stands)[1] or "", f"data.{stands}_labels")
        known = known_labels(labels, self.classes, path, 0, self.on_bad, found.skipped)
        found.skipped.check(
            self.max_bad,
            "images",
            functools.partial(self.place, stands),
            "data.classes and the files are those",
        )
        return Images(images[:, None], labels.astype(np.int64), places, found.skipped).at(known)

    @functools.cached_property
    def _identity(self) -> str:
        splits: tuple[Split, ...] = ("train", "valid") if self._held_apart else ("train",)
        parts = [repr(self.valid_fraction)] if not self._held_apart else []
        for split in splits:
            images, labels = self._content(split)
            parts.append(
                digest(str(images.shape), images.tobytes(), b"" if labels is None else labels.tobytes())
            )
        if self.on_bad == "skip":
            parts.append(f"skip {self.max_bad}")
        return f"idx-{digest(*parts, str(self.classes))}"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:]))


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """Files in the format of MNIST."""
    return {"idx": IdxCorpus}
