"""Documents that stand in two token files: held-out text that was trained on flatters every score.

Two documents are the same where they are so token for token, from the first to end-of-text; equal spelling
is meant, so one more blank makes another document, and near-copies are not found. Compared are 64 bits of a
BLAKE2b hash of the ids: among 10^8 documents and 10^5 held-out ones the odds of a false match are
10^13 / 2^64, under 1 in 10^6.

Source: BLAKE2, RFC 7693, https://www.rfc-editor.org/rfc/rfc7693
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calmkit.data.atomic_write import replacing
from calmkit.data.digest import digest
from calmkit.interfaces import DataError
from calmkit.text.token_file import TokenFile

BLOCK_DOCUMENTS = 1 << 16
FORMULA = "ids, BLAKE2b of 8 bytes, 1"
"""What the cached counts were made by."""


@dataclass(frozen=True)
class Overlap:
    """How many of the held-out documents also stand in the training text."""

    shared: int
    documents: int

    @property
    def share(self) -> float:
        """Of the held-out documents, from 0 to 1."""
        return self.shared / self.documents


def overlap(train: TokenFile, valid: TokenFile, cache: Path) -> Overlap:
    """Count them, or take the count from `cache/overlaps`, where it stands by the content of both files.

    One pass over the training ids; memory grows with the held-out documents alone.
    """
    key = digest(FORMULA, train.header.checksum, valid.header.checksum)
    path = cache / "overlaps" / f"{key}.json"
    known = _read(path, key)
    if known is None:
        known = Overlap(int(_shared(train, valid).sum()), valid.header.num_documents)
        content = {"shared": known.shared, "documents": known.documents, "seal": _seal(key, known)}
        with suppress(DataError), replacing(path) as temporary:  # one that can't be written costs time only
            temporary.write_text(json.dumps(content), encoding="utf-8")
    return known


def _shared(train: TokenFile, valid: TokenFile) -> np.ndarray:
    """Whether each held-out document [N] stands in the training text."""
    hashes, which = np.unique(_hashes(valid, np.arange(valid.header.num_documents)), return_inverse=True)
    lengths = np.unique(np.diff(valid.offsets))
    found = np.zeros(len(hashes), dtype=bool)
    for start in range(0, train.header.num_documents, BLOCK_DOCUMENTS):
        sizes = np.diff(train.offsets[start : start + BLOCK_DOCUMENTS + 1])
        alike = start + np.flatnonzero(np.isin(sizes, lengths))  # others need not be looked at
        seen = _hashes(train, alike)
        place = np.minimum(np.searchsorted(hashes, seen), len(hashes) - 1)
        found[place[hashes[place] == seen]] = True
    return found[which]


def _hashes(file: TokenFile, documents: np.ndarray) -> np.ndarray:
    """64 bits for each of these documents."""
    ids = np.asarray(file.tokens).data.cast("B")
    width = file.tokens.itemsize
    starts, ends = file.offsets[documents] * width, file.offsets[documents + 1] * width
    digests = (
        hashlib.blake2b(ids[start:end], digest_size=8).digest()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    )
    numbers = (int.from_bytes(digest, "little") for digest in digests)
    return np.fromiter(numbers, dtype=np.uint64, count=len(documents))


def _seal(key: str, found: Overlap) -> str:
    return digest(key, str(found.shared), str(found.documents))


def _read(path: Path, key: str) -> Overlap | None:
    """What an earlier run wrote; None where there is nothing, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Overlap(content["shared"], content["documents"])
        return found if content["seal"] == _seal(key, found) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
