"""Handwritten digits that come with scikit-learn: 1,797 images of 8 by 8, nothing is downloaded.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
the test part. https://archive.ics.uci.edu/dataset/80 ; read through
https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
"""

from __future__ import annotations

import functools
from typing import ClassVar, final

import numpy as np

from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction
from calmkit.hookspecs import hookimpl
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.images.split import side
from calmkit.interfaces import Corpus, Split

BRIGHTEST = 16  # of the original values, which begin at 0


@final
class DigitsCorpus(ImageCorpus):
    """Scikit-learn's 1,797 handwritten digits, 8 by 8 and grey; nothing is downloaded.

    The original values v, 0 to 16, become round(255 v / 16), and round(16 p / 255) is v again.

    Args:
        valid_fraction: Share of each class that is held out.
    """

    apart: ClassVar[str] = "no setting puts the same image on both sides"

    def __init__(self, *, valid_fraction: float = 0.2) -> None:
        check_fraction("digits", valid_fraction)
        self.valid_fraction = valid_fraction

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """A constant."""
        return (1, 8, 8)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    def images(self, split: Split) -> Images:
        """In the order of scikit-learn."""
        return side(_digits(), split, self.valid_fraction)

    def identity(self) -> str:
        """By the values that scikit-learn gives."""
        found = _digits()
        assert found.labels is not None
        content = found.pixels.tobytes(), found.labels.tobytes()
        return f"digits-{digest(*content, repr(self.valid_fraction))}"

    def source(self, split: Split) -> str:
        """There is one only."""
        del split
        return "data=digits"

    def place(self, split: Split, file: int, number: int) -> str:
        """By the number there, from 0."""
        del split, file
        return f"image {number} of sklearn.datasets.load_digits()"


@functools.cache  # a constant of the library: several corpora of one process read it once
def _digits() -> Images:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / BRIGHTEST)).astype(np.uint8)[:, None]  # [N, 1, 8, 8]
    numbers = np.arange(len(pixels))
    places = np.stack([np.zeros_like(numbers), numbers], axis=1)
    return Images(pixels, found.target.astype(np.int64), places)


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """What is there without a file."""
    return {"digits": DigitsCorpus}
