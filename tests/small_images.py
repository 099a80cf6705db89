"""Small files of images, written byte by byte: what corpora of images read in tests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes, no two images alike."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_idx(path: Path, values: np.ndarray, kind: int = 8, packed: bool = False) -> str:
    """An IDX file; `kind` is the byte that says the type."""
    header = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)
    return str(path)


def write_cifar(path: Path, labels: np.ndarray, images: np.ndarray) -> str:
    """A file of CIFAR's binary version; labels are [N] or [N, 2]."""
    labels = labels.reshape(len(images), -1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.concatenate([labels, images.reshape(len(images), -1)], axis=1).tobytes())
    return str(path)


def write_picture(path: Path, values: np.ndarray, **options: Any) -> Path:
    """A PNG or JPEG of values [H, W] or [H, W, 3]."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def write_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 5, size: int = 6) -> str:
    """So many random colour images of each class, as PNG."""
    for seed, name in enumerate(classes):
        for number, values in enumerate(pixels(count, size, size, 3, seed=seed)):
            write_picture(root / name / f"{number}.png", values)
    return str(root)
