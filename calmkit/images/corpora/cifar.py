"""CIFAR-10 and CIFAR-100 from your own files, in their binary version; no pickle is opened.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np

from calmkit.data.bad_records import MAX_BAD, OnBad, Skipped, check_max_bad
from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction
from calmkit.hookspecs import hookimpl
from calmkit.images.cifar_file import IMAGE, cifar_files, read_cifar
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.images.known_labels import known_labels
from calmkit.images.paths import reading
from calmkit.images.split import side
from calmkit.interfaces import Corpus, DataError, Split

NAMES = {("fine", 10): "batches.meta.txt", ("fine", 100): "fine_label_names.txt"}
COARSE_CLASSES, COARSE_NAMES = 20, "coarse_label_names.txt"


@final
class CifarCorpus(ImageCorpus):
    """Colour images of 32 by 32 from CIFAR's binary files: paths, or the folder as it is published.

    Args:
        train: Files, or folders, which stand for the training files in them.
        valid: The same for validation: a folder stands for its test file. None: `valid_fraction` of the
            training images is held out.
        classes: Of the data set: CIFAR-10 or CIFAR-100.
        labels: CIFAR-100 has 100 fine labels in 20 coarse ones; CIFAR-10 has fine ones only.
        valid_fraction: Share of each class; without effect where `valid` is given.
        flip: In training, half of the images are mirrored left to right, others in every epoch; held-out
            images never are.
        on_bad: An image with another label is refused, or skipped, counted and told.
        max_bad: More than this share of the images of a split is refused all the same.
    """

    apart: ClassVar[str] = "data.valid=null holds out data.valid_fraction of the training images"

    def __init__(
        self,
        *,
        train: str | list[str],
        valid: str | list[str] | None = None,
        classes: Literal[10, 100] = 10,
        labels: Literal["fine", "coarse"] = "fine",
        valid_fraction: float = 0.1,
        flip: bool = False,
        on_bad: OnBad = "refuse",
        max_bad: float = MAX_BAD,
    ) -> None:
        check_fraction("cifar", valid_fraction)
        check_max_bad("cifar", max_bad)
        if labels == "coarse" and classes == 10:
            raise ValueError("cifar: labels=coarse are those of CIFAR-100; set classes=100, or labels=fine")
        self.train = [train] if isinstance(train, str) else list(train)
        self.valid = [valid] if isinstance(valid, str) else valid
        self.classes, self.labels = classes, labels
        self.valid_fraction, self.flip, self.on_bad, self.max_bad = valid_fraction, flip, on_bad, max_bad

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """A constant."""
        return IMAGE

    @property
    def label_names(self) -> tuple[str, ...]:
        """As they stand in the published list beside the first training file; without it, numbers."""
        path = self._files("train")[0].parent / NAMES.get((self.labels, self.classes), COARSE_NAMES)
        if not path.exists():
            return tuple(map(str, range(self._count)))
        with reading(path):
            names = path.read_text(encoding="utf-8", errors="replace").split()
        if len(names) != self._count:
            raise DataError(
                f"{path} has {len(names)} names for {self._count} classes; mend it, or take it away: classes "
                "are numbers then"
            )
        return tuple(names)

    def images(self, split: Split) -> Images:
        """File by file."""
        stands = self._setting(split)
        files, skipped = self._files(stands), Skipped()
        parts = [self._read(path, index, skipped) for index, path in enumerate(files)]
        place = functools.partial(self.place, stands)
        skipped.check(self.max_bad, self.unit, place, "data.classes and the files are those")
        pixels, labels, places = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        found = Images(pixels, labels, places, skipped)
        return side(found, split, self.valid_fraction) if self.valid is None else found

    def identity(self) -> str:
        """By the content of all files, not by their names, and the names of the classes."""
        return self._identity

    def source(self, split: Split) -> str:
        """The setting and its paths."""
        setting = self._setting(split)
        names = (self.train if setting == "train" else self.valid) or []
        told = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
        return f"data.{setting}={told}"

    def place(self, split: Split, file: int, number: int) -> str:
        """The file, and the image in it from 0."""
        return f"{self._files(self._setting(split))[file]}: image {number}"

    @property
    def _count(self) -> int:
        return COARSE_CLASSES if self.labels == "coarse" else self.classes

    def _setting(self, split: Split) -> Split:
        """Where the images of a split stand: those held out of the training files stand in them."""
        return "train" if self.valid is None else split

    def _files(self, setting: Split) -> list[Path]:
        names = (self.train if setting == "train" else self.valid) or []
        return cifar_files(names, f"data.{setting}", self.classes, setting)

    def _read(self, path: Path, file: int, skipped: Skipped) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels, labels and places of the images with a known label."""
        label_bytes, pixels = read_cifar(path, self.classes)
        labels = label_bytes[:, 0 if self.labels == "coarse" else -1]
        known = known_labels(labels, self._count, path, file, self.on_bad, skipped)
        numbers = np.flatnonzero(known)
        places = np.stack([np.full_like(numbers, file), numbers], axis=1)
        return pixels[known], labels[known].astype(np.int64), places

    @functools.cached_property
    def _identity(self) -> str:
        parts = []
        for setting in ("train", "valid") if self.valid is not None else ("train",):
            contents = []
            for path in self._files(setting):
                with reading(path):
                    contents.append(digest(path.read_bytes()))
            parts.append(digest(*contents))
        if self.valid is None:
            parts.append(repr(self.valid_fraction))
        if self.on_bad == "skip":
            parts.append(f"skip {self.max_bad}")
        return f"cifar-{digest(*parts, str(self.classes), self.labels, *self.label_names)}"


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """CIFAR by path."""
    return {"cifar": CifarCorpus}
