"""PNG and JPEG files of your own, in one folder for each class.

Source: the layout is that of torchvision's ImageFolder,
https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from calmkit.data.bad_records import MAX_BAD, BadRecord, OnBad, Skipped, check_max_bad
from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction
from calmkit.hookspecs import hookimpl
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.images.paths import reading
from calmkit.images.picture import Colour, picture
from calmkit.images.picture_folder import Listing, listing, refuse_strange_classes, roots
from calmkit.images.split import content_hash, held_out
from calmkit.interfaces import Corpus, DataError, Split


@final
class FolderCorpus(ImageCorpus):
    """Images from PNG and JPEG files, in one folder for each class: path/class/name.png.

    Images that lie in `path` itself have no labels. Where `path` holds `train/`, and maybe `valid/`, the
    classes lie in these.

    Args:
        path: The folder.
        size: Height and width: of each image the middle square, scaled. None: as they are, all of one size.
        classes: How many there must be; with `size` a recipe is checked and planned where the folder is not.
            None: as many as there are.
        colour: `rgb`, or `grey`, one channel.
        valid_fraction: Share of each class that is held out; without effect where there is `valid/`.
        flip: In training, half of the images are mirrored left to right, others in every epoch; held-out
            images never are. Not for writing, nor for anything else that has a left and a right.
        on_bad: A file that is no whole image is refused, or skipped, counted and told.
        max_bad: More than this share of the files is refused all the same.
    """

    apart: ClassVar[str] = "without valid/, data.valid_fraction of the files is held out, and copies together"
    unit: ClassVar[str] = "files"

    def __init__(
        self,
        *,
        path: str,
        size: int | None = None,
        classes: int | None = None,
        colour: Colour = "rgb",
        valid_fraction: float = 0.1,
        flip: bool = False,
        on_bad: OnBad = "refuse",
        max_bad: float = MAX_BAD,
    ) -> None:
        check_fraction("folder", valid_fraction)
        check_max_bad("folder", max_bad)
        if size is not None and size < 1:
            raise ValueError(f"folder: size must be at least 1, got {size}; null takes images as they are")
        if classes is not None and classes < 1:
            raise ValueError(
                f"folder: classes must be at least 1, got {classes}; null takes as many as there are"
            )
        self.path, self.size, self.classes, self.colour = path, size, classes, colour
        self.valid_fraction, self.flip, self.on_bad, self.max_bad = valid_fraction, flip, on_bad, max_bad

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """By `size`; without it, by the first whole image."""
        if self.size is not None:
            return (1 if self.colour == "grey" else 3, self.size, self.size)
        return self._first[1]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the folders, sorted."""
        return self._listing("train").names

    @property
    def num_labels(self) -> int:
        """As many as stated, else as there are folders."""
        return len(self.label_names) if self.classes is None else self.classes

    def images(self, split: Split) -> Images:
        """By class, then by name."""
        found = self._listing(split)
        index = self._side(split)
        skipped, kept = Skipped(), list[int]()
        pixels = np.empty((len(index), *self.image_shape), dtype=np.uint8)
        for number in index.tolist():
            image = self._picture(found.files[number])
            if isinstance(image, BadRecord):
                skipped.leave_out(image, number, self.on_bad)
                continue
            skipped.records += 1
            self._check_size(image, found.files[number])
            pixels[len(kept)] = image
            kept.append(number)
        place = functools.partial(self.place, split)
        skipped.check(self.max_bad, self.unit, place, "data.path and the files are those")
        places = np.stack([np.asarray(kept, dtype=np.int64), np.zeros(len(kept), dtype=np.int64)], axis=1)
        labels = self._labels(found)
        return Images(pixels[: len(kept)], None if labels is None else labels[kept], places, skipped)

    def identity(self) -> str:
        """By the content of all files and the names of their classes; a copy elsewhere has the same."""
        return self._identity

    def source(self, split: Split) -> str:
        """The setting and the folder."""
        return f"data.path={self._listing(split).root}"

    def place(self, split: Split, file: int, number: int) -> str:
        """The file."""
        del number
        return str(self._listing(split).files[file])

    def _listing(self, split: Split) -> Listing:
        places = self._roots
        return self._listings[split if split in places else "train"]

    @functools.cached_property
    def _roots(self) -> dict[Split, Path]:
        return roots(self.path)

    @functools.cached_property
    def _listings(self) -> dict[Split, Listing]:
        found = {split: listing(root) for split, root in self._roots.items()}
        refuse_strange_classes(found, self.classes)
        return found

    @functools.cached_property
    def _hashes(self) -> dict[Split, list[int]]:
        """Of the content of each file."""
        return {
            split: [content_hash(_content(path)) for path in one.files]
            for split, one in self._listings.items()
        }

    def _labels(self, found: Listing) -> np.ndarray | None:
        names = {name: index for index, name in enumerate(self.label_names)}
        return np.asarray([names[name] for name in found.classes], dtype=np.int64) if names else None

    def _side(self, split: Split) -> np.ndarray:
        """The numbers of the files of a split in its listing."""
        found = self._listing(split)
        if "valid" in self._roots:
            return np.arange(len(found.files))
        valid = held_out(self._hashes["train"], self._labels(found), self.valid_fraction)
        return np.flatnonzero(valid if split == "valid" else ~valid)

    def _picture(self, path: Path) -> np.ndarray | BadRecord:
        return picture(_content(path), path, self.colour, self.size)

    @functools.cached_property
    def _first(self) -> tuple[Path, tuple[int, int, int]]:
        """The first whole image of the training side, and its shape."""
        found = self._listing("train")
        for number, path in enumerate(found.files):
            image = self._picture(path)
            if not isinstance(image, BadRecord):
                return path, image.shape
            Skipped().leave_out(image, number, self.on_bad)
        raise DataError(f"data.path: {found.root} holds no whole image; save the files again")

    def _check_size(self, image: np.ndarray, path: Path) -> None:
        if image.shape != self.image_shape:
            first, (_, height, width) = self._first
            raise DataError(
                f"images of mixed sizes: {first} is {height} x {width}, {path} is {image.shape[1]} x "
                f"{image.shape[2]}; data.size=32 makes all of them 32 x 32, of each the middle square, scaled"
            )

    @functools.cached_property
    def _identity(self) -> str:
        settings = [str(self.size), self.colour]
        if "valid" not in self._roots:
            settings.append(repr(self.valid_fraction))
        if self.on_bad == "skip":
            settings.append(f"skip {self.max_bad}")
        for split, one in self._listings.items():
            named = zip(one.classes or ("",) * len(one.files), self._hashes[split], strict=True)
            settings.append(digest(split, *(f"{name} {key}" for name, key in named)))
        return f"folder-{digest(*settings)}"


def _content(path: Path) -> bytes:
    with reading(path):
        return path.read_bytes()


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """Files of the user's own."""
    return {"folder": FolderCorpus}
