"""IDX files of unsigned bytes, the format of MNIST: header and content, plain or packed by gzip.

Two zero bytes, the type of the values, the number of axes, the length of each axis as a big-endian 32-bit
number, then the values, last axis fastest.

Source: LeCun, Cortes and Burges, The MNIST database: "File formats". http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from calmkit.images.paths import existing, reading
from calmkit.interfaces import DataError

UNSIGNED_BYTES = 0x08
TYPES = {0x09: "signed bytes", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
GZIP = b"\x1f\x8b"
FETCH_AGAIN = "fetch the file again"


def idx_shape(name: str, setting: str, axes: int) -> tuple[int, ...]:
    """The lengths of the axes, by the header alone.

    Args:
        name: The path.
        setting: Its key in the recipe, for the message.
        axes: How many there must be: 3 for images, 1 for labels.

    Raises:
        DataError: The file is missing, or is no IDX file of that many axes of unsigned bytes.
    """
    path = existing(name, setting)
    with _opened(path) as file:
        return _header(file, path, setting, axes)


def read_idx(name: str, setting: str, axes: int) -> UInt8[np.ndarray, "..."]:
    """The whole content; arguments and errors as `idx_shape`, and:

    Raises:
        DataError: The file is cut short, or longer than its header says.
    """
    path = existing(name, setting)
    with _opened(path) as file:
        shape = _header(file, path, setting, axes)
        size = math.prod(shape)
        content = file.read(size + 1)
    says = f"its header says {' x '.join(map(str, shape))} = {size} values"
    if len(content) < size:
        raise DataError(f"{setting}: {path} is cut short: {says}, and {len(content)} follow; {FETCH_AGAIN}")
    if len(content) > size:
        raise DataError(f"{setting}: {path} is damaged: {says}, and more follow; {FETCH_AGAIN}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """The file, unpacked where it begins as gzip does, whatever its name."""
    with reading(path), path.open("rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield unpacked
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is damaged or no gzip file ({error}); {FETCH_AGAIN}") from error


def _header(file: BufferedIOBase, path: Path, setting: str, axes: int) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in {UNSIGNED_BYTES, *TYPES}:
        raise DataError(
            f"{setting}: {path} is no IDX file: it begins with {magic.hex(' ') or 'nothing'} instead of "
            f"00 00 08 {axes:02x}; give the file as it was published, plain or .gz"
        )
    if magic[2] != UNSIGNED_BYTES:
        raise DataError(
            f"{setting}: {path} holds {TYPES[magic[2]]}, and unsigned bytes (type 08) are read; convert it"
        )
    if magic[3] != axes:
        raise DataError(
            f"{setting}: {path} has {magic[3]} axes instead of {axes}: images have 3 (count, height, width), "
            "labels have 1; see that images and labels are not exchanged"
        )
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError(f"{setting}: {path} is cut short within its header; {FETCH_AGAIN}")
    shape = struct.unpack(f">{axes}I", lengths)
    if 0 in shape:
        told = " x ".join(map(str, shape))
        raise DataError(f"{setting}: {path} is empty: its header says {told}; give a file with images")
    return shape
