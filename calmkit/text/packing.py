"""Documents in rows of chunks: each starts at a chunk, nothing is copied, a row is index arithmetic.

A document of n tokens (its end-of-text among them) is filled up with end-of-text on its left to a
multiple of K. The filled documents lie one behind the other, only in thought, and are cut into rows of T
tokens, L = T / K chunks. A prompt is filled on its left too, so that training has seen it.

Source: packing as in GPT-2 and CALM's training code, but aligned to chunks (DESIGN: "How data flows").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch.utils.data import Dataset

from calmkit.data.order import NO_ROW
from calmkit.interfaces import Batch, DataError
from calmkit.text.token_file import TokenFile


def check_lengths(sequence_length: int, chunk_size: int) -> None:
    """Refuse a row that is no whole number of chunks.

    Raises:
        ValueError: Naming both, and the nearest lengths that would do.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if sequence_length < 1 or sequence_length % chunk_size:
        below = sequence_length // chunk_size * chunk_size
        near = [str(length) for length in (below, below + chunk_size) if length > 0]
        raise ValueError(
            f"data.sequence_length {sequence_length} is no multiple of the chunk size {chunk_size}; "
            f"{' or '.join(near)} would do"
        )


@final
class PackedRows(Dataset[Batch]):
    """Rows of a token file as batches: `data` [B, L, K] ids, `valid` [B, L], and in `group` [B, L] the
    document of each unit, from 0.

    Args:
        token_file: The documents.
        chunk_size: K.
        sequence_length: T, a multiple of K.
        eos_id: Fills documents on their left and the last row on its right.
        keep_remainder: Whether what is left at the end makes a last row, filled up with invalid units.

    Raises:
        ValueError: K does not divide T.
        DataError: The tokens don't make one row.
    """

    def __init__(
        self,
        token_file: TokenFile,
        chunk_size: int,
        sequence_length: int,
        eos_id: int,
        *,
        keep_remainder: bool,
    ) -> None:
        check_lengths(sequence_length, chunk_size)
        self.token_file, self.eos_id = token_file, eos_id
        self.chunk_size, self.units = chunk_size, sequence_length // chunk_size
        self._offsets = token_file.offsets
        units_of = -(-np.diff(self._offsets) // chunk_size)
        self._first_unit = np.concatenate([[0], np.cumsum(units_of)])  # of each document, and the total
        self.total_units = int(self._first_unit[-1])
        self._rows = -(-self.total_units // self.units) if keep_remainder else self.total_units // self.units
        if not self._rows:
            raise DataError(
                f"the {token_file.header.split} split has {token_file.header.num_tokens} tokens "
                f"({self.total_units * chunk_size} in whole chunks), fewer than one sequence of "
                f"{sequence_length}; give more text or lower data.sequence_length"
            )

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> Batch:
        """A batch of one row; `NO_ROW` gives one without valid units."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch at once: what the loader asks for first. Where no unit is, the group is 0."""
        rows = np.asarray(indices, dtype=np.int64)
        if ((rows < NO_ROW) | (rows >= self._rows)).any():
            raise IndexError(f"rows {rows.tolist()} of {self._rows}")
        units = rows[:, None] * self.units + np.arange(self.units)  # [B, L]
        valid = (rows[:, None] != NO_ROW) & (units < self.total_units)
        chunks = np.full((*units.shape, self.chunk_size), self.eos_id, dtype=np.int64)
        documents = np.zeros(units.shape, dtype=np.int64)
        documents[valid] = np.searchsorted(self._first_unit, units[valid], side="right") - 1
        chunks[valid] = self._chunks(units[valid], documents[valid])
        data, real, group = (torch.from_numpy(array) for array in (chunks, valid, documents))
        return Batch(data, real, group=group)

    def _chunks(self, units: np.ndarray, document: np.ndarray) -> np.ndarray:
        """The tokens [N, K] of units by their number [N] in the whole split, and that of their document."""
        start, end = self._offsets[document], self._offsets[document + 1]
        # counted from the document's end, where chunks are whole; its first chunk begins before `start`
        behind = (self._first_unit[document + 1] - units) * self.chunk_size
        index = (end - behind)[:, None] + np.arange(self.chunk_size)
        fill = index < start[:, None]
        tokens = self.token_file.tokens[np.maximum(index, start[:, None])]
        return np.where(fill, self.eos_id, tokens)
