"""Files of CIFAR-10 and CIFAR-100 in their binary version: records of label bytes and 3,072 values.

A record is one label (CIFAR-10), or a coarse and a fine one (CIFAR-100), and an image of 32 by 32: its red
plane, its green one, its blue one, each row by row. The version of pickles is never opened: a pickle can run
whatever its writer chose.

Source: Krizhevsky, The CIFAR-10 and CIFAR-100 datasets: "Binary version".
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from calmkit.images.paths import existing, reading
from calmkit.interfaces import DataError, Split

IMAGE = (3, 32, 32)
VALUES = 3 * 32 * 32
LABELS = {10: 1, 100: 2}
"""Number of classes -> label bytes of a record."""
FILES: dict[int, dict[Split, tuple[str, ...]]] = {
    10: {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "valid": ("test_batch.bin",)},
    100: {"train": ("train.bin",), "valid": ("test.bin",)},
}
"""What a folder holds as it is published."""
PICKLED = {"data_batch_1", "train", "batches.meta", "meta"}
PICKLE_PROTOCOLS = tuple(bytes([0x80, version]) for version in range(2, 6))
THE_BINARY_VERSION = (
    "take the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz), and unpack it"
)


def cifar_files(names: Sequence[str], setting: str, classes: int, split: Split) -> list[Path]:
    """The files that paths and folders name; a folder stands for the published files of the split in it.

    Raises:
        DataError: One does not exist, or a folder lacks such a file.
    """
    found: list[Path] = []
    for name in names:
        path = existing(name, setting)
        found += _published(path, setting, classes, split) if path.is_dir() else [path]
    if not found:
        raise DataError(f"{setting} names no file; give paths, or the folder of CIFAR's binary version")
    return found


def _published(folder: Path, setting: str, classes: int, split: Split) -> list[Path]:
    wanted = FILES[classes][split]
    with reading(folder):
        there = {path.name for path in folder.iterdir()}
    missing = [name for name in wanted if name not in there]
    if not missing:
        return [folder / name for name in wanted]
    if there & PICKLED:
        raise DataError(
            f"{setting}: {folder} holds CIFAR's pickled Python version, which is never opened, for a pickle "
            f"can run code; {THE_BINARY_VERSION}"
        )
    other = 110 - classes
    hint = f"set data.classes={other}, or " if set(FILES[other][split]) <= there else ""
    raise DataError(
        f"{setting}: the folder {folder} lacks {', '.join(missing)} of CIFAR-{classes}; {hint}give the files "
        "by their paths"
    )


def read_cifar(
    path: Path, classes: int
) -> tuple[UInt8[np.ndarray, "N labels"], UInt8[np.ndarray, "N 3 32 32"]]:
    """The label bytes and the images of one file.

    Raises:
        DataError: It cannot be read, is a pickle or an archive, or is no whole number of records.
    """
    with reading(path):
        content = path.read_bytes()
    if content.startswith(PICKLE_PROTOCOLS):
        raise DataError(
            f"{path} is a pickle, as CIFAR's Python version is; it is never opened, for a pickle can run "
            f"code; {THE_BINARY_VERSION}"
        )
    if content.startswith(b"\x1f\x8b"):
        raise DataError(f"{path} is packed by gzip; unpack it, for an archive with `tar -xzf`")
    record = LABELS[classes] + VALUES
    if not content or len(content) % record:
        other = LABELS[110 - classes] + VALUES
        fits = content and not len(content) % other
        cure = f"set data.classes={110 - classes}, whose records fit" if fits else "fetch the file again"
        raise DataError(
            f"{path} has {len(content)} bytes, no whole number of CIFAR-{classes} records of {record} "
            f"bytes: record {len(content) // record} is cut short; {cure}"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)  # [N, labels + 3072]
    return records[:, : LABELS[classes]], records[:, LABELS[classes] :].reshape(-1, *IMAGE)
