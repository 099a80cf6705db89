"""A folder of PNG and JPEG files: which files there are, and which class each is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calmkit.images.paths import existing, reading
from calmkit.images.picture import SUFFIXES
from calmkit.interfaces import DataError, Split


@dataclass(frozen=True)
class Listing:
    """The files of one side.

    Attributes:
        root: The folder of the classes, or of the images where there are none.
        files: By class, then by name.
        classes: Of each file, the name; empty where there are none.
    """

    root: Path
    files: tuple[Path, ...]
    classes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, each once, in order."""
        return tuple(sorted(set(self.classes)))


def roots(name: str) -> dict[Split, Path]:
    """Where the splits lie: in `train/` and `valid/`, where there is a `train/`; else there is one place.

    Raises:
        DataError: The folder does not exist or is none, or there is a `valid/` alone.
    """
    path = existing(name, "data.path")
    if not path.is_dir():
        raise DataError(f"data.path: {name} is a file; give the folder that holds one folder for each class")
    train, valid = path / "train", path / "valid"
    if train.is_dir():
        return {"train": train, "valid": valid} if valid.is_dir() else {"train": train}
    if valid.is_dir():
        raise DataError(
            f"data.path: {name} holds valid/ without train/; move the training images to {train}, or the "
            "classes of valid/ into it to have a part held out"
        )
    return {"train": path}


def listing(root: Path) -> Listing:
    """The images below a folder, at any depth; hidden files and those of other suffixes are left out.

    Raises:
        DataError: There are none, or some lie beside the folders of classes.
    """
    with reading(root):
        below = sorted(path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = [path for path in below if not any(part[0] == "." for part in path.parts)]
    found = [path for path in found if (root / path).is_file()]
    if not found:
        raise DataError(f"data.path: {root} holds no image; known files are {', '.join(SUFFIXES)}")
    loose = [path for path in found if len(path.parts) == 1]
    if loose and len(loose) < len(found):
        raise DataError(
            f"data.path: {root / loose[0]} lies beside folders of classes; move it into that of its class"
        )
    classes = () if loose else tuple(path.parts[0] for path in found)
    return Listing(root, tuple(root / path for path in found), classes)


def refuse_strange_classes(found: Mapping[Split, Listing], classes: int | None) -> None:
    """Refuse classes that only one side has, and another number than `classes`.

    Raises:
        DataError: Naming the folder and what to change.
    """
    root, names = found["train"].root, found["train"].names
    if classes not in (None, len(names)):
        raise DataError(
            f"data.path: {root} holds {len(names)} folders of classes, and data.classes is {classes}; "
            "data.classes=null takes as many as there are"
        )
    for split, one in found.items():
        strange = sorted(set(one.names) - set(names))
        if strange or bool(one.names) != bool(names):
            what = f"the class {strange[0]}" if strange else "images without a class"
            raise DataError(
                f"data.path: {one.root} holds {what}, and {root} does not; the folders of {split}/ must be "
                "among those of train/"
            )
