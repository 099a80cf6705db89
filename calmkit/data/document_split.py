"""Train or valid, decided by a hash of each document's own text.

The order of files, their names and the machine don't matter, and copies of one document always land on
the same side, so that nothing that was trained on is evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def document_hash(text: str, seed: int = 0) -> int:
    """64 bits of a hash of the text, another one for each seed."""
    hasher = hashlib.blake2b(text.encode(), digest_size=8, key=str(seed).encode())
    return int.from_bytes(hasher.digest(), "little")


def is_valid_by_threshold(text: str, fraction: float, seed: int = 0) -> bool:
    """Whether a document is for validation, by itself: for streams, whose size nobody knows."""
    return document_hash(text, seed) < fraction * 2**64


def choose_valid(sizes: Iterable[tuple[int, int]], fraction: float) -> frozenset[int]:
    """The hashes of the documents held out: at most `fraction` of the whole size, and nearly that.

    Walks the documents by hash and takes each that still fits. A document larger than the whole share
    stays in train; where none fits, the smallest is taken.

    Args:
        sizes: (hash, size) of each document, in any order.
        fraction: Share of the total size, in (0, 1).

    Returns:
        Empty if there are fewer than two different documents.
    """
    size_of: dict[int, int] = {}
    for key, size in sizes:
        size_of[key] = size_of.get(key, 0) + size
    if len(size_of) < 2:
        return frozenset()
    room = fraction * sum(size_of.values())
    chosen: set[int] = set()
    for key in sorted(size_of):
        if size_of[key] <= room:
            room -= size_of[key]
            chosen.add(key)
    return frozenset(chosen or {min(size_of, key=lambda key: (size_of[key], key))})


def check_fraction(part: str, fraction: float) -> None:
    """Refuse a share of validation documents that leaves one side empty."""
    if not 0 < fraction < 1:
        raise ValueError(
            f"{part}: valid_fraction must lie between 0 and 1, got {fraction}; "
            "0.05 holds out one part in twenty"
        )
