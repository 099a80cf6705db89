"""ImageCorpus: where images come from."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
from jaxtyping import Int64, UInt8

from calmkit.data.bad_records import Skipped
from calmkit.interfaces import Corpus, Split


@final
@dataclass(frozen=True)
class Images:
    """A split, decoded. The arrays may be views of a mapped file.

    Attributes:
        pixels: From 0, black, to 255.
        labels: Index into the corpus's `label_names`; None where it has none.
        places: Index of the file and number of the image in it: `ImageCorpus.place` turns them into words.
        skipped: What the reading left out.
    """

    pixels: UInt8[np.ndarray, "N C H W"]
    labels: Int64[np.ndarray, " N"] | None
    places: Int64[np.ndarray, "N 2"]
    skipped: Skipped = field(default_factory=Skipped)

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, index: np.ndarray) -> Images:
        """Some of them, by number or by mask."""
        labels = None if self.labels is None else self.labels[index]
        return Images(self.pixels[index], labels, self.places[index], self.skipped)


class ImageCorpus(Corpus):
    """A source of images of one shape, split by image. The constructor is `(*, ...)`, all of it settable in a
    recipe, and reads nothing: whoever asks for a shape, a name or an image is told what is wrong with a file.

    Attributes:
        apart: How its settings keep the two splits apart, for a message.
        unit: What its records are, in the plural.
        flip: In training, half of the images are mirrored left to right, others in every epoch. All that is
            measured sees them as they are.
    """

    data_kind: ClassVar[str] = "images"
    apart: ClassVar[str]
    unit: ClassVar[str] = "images"
    flip: bool = False

    @property
    def augmentation(self) -> str:
        """`flip`, or nothing."""
        return "flip" if self.flip else ""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`, C 1 or 3. Where no setting fixes it, a header or one image is read, never all of them.

        Raises:
            DataError: That file is missing or broken.
        """

    @property
    @abstractmethod
    def label_names(self) -> tuple[str, ...]:
        """The classes by index; empty where images have no labels. No image is read.

        Raises:
            DataError: Names stand in a file or a folder that is missing or broken.
        """

    @property
    def num_labels(self) -> int:
        """How many classes there are; a corpus that knows it by a setting reads no file for it."""
        return len(self.label_names)

    @abstractmethod
    def images(self, split: Split) -> Images:
        """The images of a split, in a fixed order, all in memory.

        Raises:
            DataError: A file is missing or broken, naming file, place and cure; or a split is empty.
        """

    @abstractmethod
    def source(self, split: Split) -> str:
        """The setting that a split comes from, as in a recipe: `data.path=photos`."""

    @abstractmethod
    def place(self, split: Split, file: int, number: int) -> str:
        """Names the image that `Images.places` knows by these two."""

    def notes(self, split: Split, skipped: Skipped) -> list[str]:
        """What a reading of the split left out, a line; none where it left out nothing."""
        if not skipped.bad:
            return []
        return [skipped.note(self.source(split), self.unit, functools.partial(self.place, split))]
