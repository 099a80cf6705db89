"""Batches of text for Lightning: data are ids `[B, L, K]`, a unit's group is its document."""

from __future__ import annotations

from typing import Any, final

from calmkit.data.datamodule import RowsDataModule
from calmkit.text.packing import PackedRows
from calmkit.text.token_file import TokenFile


@final
class TextDataModule(RowsDataModule):
    """Packed rows of two token files.

    Args:
        train: Whole rows only.
        valid: The last row may be filled up with invalid units.
        chunk_size: K.
        sequence_length: T.
        eos_id: Of the tokenizer.
        **options: As of `RowsDataModule`.

    Raises:
        DataError: There are too few rows for one batch.
    """

    def __init__(
        self,
        train: TokenFile,
        valid: TokenFile,
        *,
        chunk_size: int,
        sequence_length: int,
        eos_id: int,
        **options: Any,
    ) -> None:
        cut = (chunk_size, sequence_length, eos_id)
        super().__init__(
            PackedRows(train, *cut, keep_remainder=False),
            PackedRows(valid, *cut, keep_remainder=True),
            called=f"rows of {sequence_length} tokens",
            cure="give more text, or lower batch_size or data.sequence_length",
            **options,
        )
