"""The text of a row that somebody else's library read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calmkit.data.bad_records import BadRecord


def row_text(row: Mapping[str, Any], text_key: str, where: str, number: int) -> str | BadRecord:
    """What stands under the key, or what it is refused for.

    Args:
        row: Columns and their values.
        text_key: The column of the text.
        where: Names the row, for the message.
        number: Of the row, as it is counted.
    """
    text = row.get(text_key)
    if not isinstance(text, str):
        return BadRecord(
            f"{where} has no text under '{text_key}'; its columns are {', '.join(row)}; "
            "set data.text_key to the one of the text",
            number,
            _kind(row, text_key),
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return BadRecord(
            f"{where}: character {error.start} of '{text_key}' is half a surrogate pair, "
            "which UTF-8 cannot hold",
            number,
            "half a surrogate pair",
        )
    return text


def _kind(row: Mapping[str, Any], text_key: str) -> str:
    if text_key not in row:
        return f"no key '{text_key}'"
    text = row[text_key]
    return "null" if text is None else f"{type(text).__name__} instead of text"
