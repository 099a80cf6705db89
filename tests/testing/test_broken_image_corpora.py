"""The conformance kit sees what is wrong: corpora of images that keep every law but one."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from calmkit.images.corpus import ImageCorpus, Images
from calmkit.interfaces import DataError, Split
from calmkit.testing import check_image_corpus


class Whole(ImageCorpus):
    """Six and four images of three classes."""

    apart = "nothing would"
    image_shape = (1, 2, 3)
    label_names = ("a", "b", "c")

    def images(self, split: Split) -> Images:
        numbers = np.arange(6) if split == "train" else np.arange(6, 10)
        pixels = np.broadcast_to(numbers[:, None, None, None], (len(numbers), 1, 2, 3)).astype(np.uint8)
        return Images(pixels, numbers % 3, np.stack([numbers, numbers], axis=1))

    def identity(self) -> str:
        return "whole"

    def source(self, split: Split) -> str:
        return "data=whole"

    def place(self, split: Split, file: int, number: int) -> str:
        return f"image {number}"


class OtherShape(Whole):
    """Height and width exchanged."""

    image_shape = (1, 3, 2)


class TwoChannels(Whole):
    """Neither grey nor colour."""

    image_shape = (2, 2, 3)


class EmptySplit(Whole):
    """Nothing is held out."""

    def images(self, split: Split) -> Images:
        found = super().images(split)
        return found.at(np.zeros(len(found), dtype=bool)) if split == "valid" else found


class Unreadable(Whole):
    """Its file is gone."""

    def images(self, split: Split) -> Images:
        raise DataError("a file is missing")


class OneClassTooMany(Whole):
    """A label has no name."""

    label_names = ("a", "b")


class NegativeLabel(Whole):
    """Labels begin at -1."""

    def images(self, split: Split) -> Images:
        found = super().images(split)
        return replace(found, labels=found.labels - 1)


class NamesWithoutLabels(Whole):
    """Names for nothing."""

    def images(self, split: Split) -> Images:
        return replace(super().images(split), labels=None)


class LabelsWithoutNames(Whole):
    """Labels that nobody can say."""

    label_names = ()


class OneNameTwice(Whole):
    """Two classes of one name."""

    label_names = ("a", "b", "a")


class OnePlaceTwice(Whole):
    """Two images in one place."""

    def place(self, split: Split, file: int, number: int) -> str:
        return f"image {number % 5}"


class OneImageInBothSplits(Whole):
    """It is trained on what is held out."""

    def images(self, split: Split) -> Images:
        return super().images("train")


class NoPlaces(Whole):
    """Nobody knows where an image lies."""

    def images(self, split: Split) -> Images:
        found = super().images(split)
        vars(found)["places"] = found.places[:0]  # as a guest may whose arrays nobody checks
        return found


class FewLabels(Whole):
    """Labels for some."""

    def images(self, split: Split) -> Images:
        found = super().images(split)
        vars(found)["labels"] = found.labels[:3]
        return found


class OtherImages(Whole):
    """Each instance has another order."""

    made = count()

    def __init__(self) -> None:
        self.turn = next(self.made)

    def images(self, split: Split) -> Images:
        return super().images(split).at(np.roll(np.arange(3), self.turn))


class OtherIdentity(Whole):
    """Each instance has another name."""

    def identity(self) -> str:
        return str(id(self))


class Wordless(Whole):
    """Comes from nowhere."""

    def source(self, split: Split) -> str:
        return ""


class Unstated(Whole):
    """Does not say how to keep splits apart."""

    apart = None


class MirroredNowAndThen(Whole):
    """Says how often where yes or no is asked."""

    flip = 0.5


class Positional(Whole):
    """Takes a setting before the star."""

    def __init__(self, path: str = "") -> None:
        pass


def test_the_whole_one_keeps_them_all() -> None:
    check_image_corpus(Whole)


SHAPE = "images are bytes of image_shape, and there are some"
LABELS = "labels are indices of label_names, and there where names are"
PLACES = "every image has a place of its own, in one split"
AGAIN = "another instance gives the same images under the same identity"
FLIP = "flip is true or false"
WORDS = "source and apart are words"


@pytest.mark.parametrize(
    ("cls", "law", "seen"),
    [
        (OtherShape, SHAPE, r"image_shape is \(1, 3, 2\), and pixels of train are \(6, 1, 2, 3\)"),
        (TwoChannels, SHAPE, r"image_shape is \(2, 2, 3\)"),
        (EmptySplit, SHAPE, r"pixels of valid are \(0, 1, 2, 3\)"),
        (Unreadable, SHAPE, r"images\(split='train'\) \(.*\) raised DataError: a file is missing"),
        (OneClassTooMany, LABELS, "labels of train run from 0 to 2, and there are 2 names"),
        (NegativeLabel, LABELS, "labels of train run from -1 to 1, and there are 3 names"),
        (NamesWithoutLabels, LABELS, "there are 3 names, and labels of train are not there"),
        (LabelsWithoutNames, LABELS, "there are 0 names, and labels of train are there"),
        (FewLabels, LABELS, "6 images of train have 3 labels"),
        (OneNameTwice, LABELS, "one name stands twice"),
        (OnePlaceTwice, PLACES, "'image 0' is of train and again of train"),
        (OneImageInBothSplits, PLACES, "'image 0' is of train and again of valid"),
        (NoPlaces, PLACES, r"6 images of train have places of shape \(0, 2\)"),
        (OtherImages, AGAIN, "the images of valid differ"),
        (OtherIdentity, AGAIN, "its identities are"),
        (MirroredNowAndThen, FLIP, "it is 0.5"),
        (Wordless, WORDS, "of train it says ''"),
        (Unstated, WORDS, "of apart it says None"),
    ],
)
def test_a_broken_law_is_named(cls: type[ImageCorpus], law: str, seen: str) -> None:
    with pytest.raises(AssertionError, match=f"corpora: '{cls.__name__}' breaks the law '{law}': .*{seen}"):
        check_image_corpus(cls)


def test_the_constructor_is_held_to_the_laws_of_all_parts() -> None:
    with pytest.raises(AssertionError, match="corpora: 'Positional' breaks the law"):
        check_image_corpus(Positional)
