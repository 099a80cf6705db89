"""The first documents of a stream: reading stops where they are enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from calmkit.interfaces import DataError


def bounded(
    texts: Iterable[str], setting: str, max_documents: int | None, max_bytes: int | None
) -> Iterator[str]:
    """Whole documents from the start, as many as both bounds allow; what is behind them is not asked for, but
    for the one document that no longer fits.

    Args:
        texts: The stream.
        setting: Who bounds the bytes, for the message.
        max_documents: At most so many; None: all.
        max_bytes: Of at most so many UTF-8 bytes together; None: of any.

    Raises:
        DataError: The first document alone has more bytes.
    """
    size = 0
    for number, text in enumerate(islice(texts, max_documents)):
        size += len(text.encode())
        if max_bytes is not None and size > max_bytes:
            if number == 0:
                raise DataError(
                    f"{setting} is {max_bytes}, and the first document has {size} bytes; give at least these"
                )
            return
        yield text
