"""A split of images, decoded once: one mapped .npy of records, and a .json that says what it must hold.

A record is `pixels` [C, H, W] uint8, `place` [2] int64 and, where there are labels, `label` int64.

Source: the format of .npy, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from calmkit.data.atomic_write import replacing
from calmkit.data.bad_records import Skipped
from calmkit.data.digest import digest
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.interfaces import DataError, Split

FORMAT = "calmkit images 1"


def decoded(corpus: ImageCorpus, split: Split, cache: Path) -> Images:
    """The images of a split, mapped from `cache/images`; decoded and written there first if they aren't there
    or are damaged.

    Args:
        corpus: Its images are only read if the file isn't there.
        split: Of the corpus.
        cache: Processes may share it, and write the same file at once.

    Raises:
        DataError: The split is empty, the cache cannot be written, or anything `ImageCorpus.images` refuses.
    """
    path = cache / "images" / f"{split}-{digest(FORMAT, corpus.identity(), split)}.npy"
    known = _read(path)
    if known is None:
        _write(path, _filled(corpus, split))
        known = _read(path)
    if known is None:
        raise DataError(
            f"{path} was written and reads back damaged; see to that disk, or set CALMKIT_CACHE to another"
        )
    return known


def _filled(corpus: ImageCorpus, split: Split) -> Images:
    found = corpus.images(split)
    if not len(found):
        raise DataError(
            f"the {split} split of {corpus.source(split)} is empty; check what `data` names and how it is "
            "split, and give it images"
        )
    return found


def _write(path: Path, images: Images) -> None:
    fields: list[tuple[str, str, tuple[int, ...]]] = [
        ("pixels", "u1", images.pixels.shape[1:]),
        ("place", "<i8", (2,)),
    ]
    if images.labels is not None:
        fields.append(("label", "<i8", ()))
    records = np.empty(len(images), dtype=fields)
    records["pixels"], records["place"] = images.pixels, images.places
    if images.labels is not None:
        records["label"] = images.labels
    with replacing(path) as temporary, temporary.open("xb") as file:
        np.save(file, records, allow_pickle=False)
        file.flush()
        said = {"checksum": _checksum(temporary), "skipped": images.skipped.to_text()}
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(said | {"seal": _seal(said)}), encoding="utf-8")


def _read(path: Path) -> Images | None:
    """What an earlier run wrote, read once from end to end; None where there is nothing, or it is damaged."""
    try:
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if said.pop("seal") != _seal(said) or said["checksum"] != _checksum(path):
            return None
        records = np.load(path, mmap_mode="r", allow_pickle=False)
        labels = records["label"] if "label" in records.dtype.names else None
        return Images(records["pixels"], labels, records["place"], Skipped.from_text(said["skipped"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _seal(said: dict[str, str]) -> str:
    return digest(FORMAT, said["checksum"], said["skipped"])


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
