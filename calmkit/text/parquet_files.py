"""Documents from .parquet: one of each row, read batch by batch, and no column but that of the text.

Source: https://parquet.apache.org/docs/file-format/ · https://arrow.apache.org/docs/python/parquet.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calmkit.data.bad_records import BadRecord
from calmkit.interfaces import DataError

PARQUET = ".parquet"
BATCH_ROWS = 1024
TEXTS = ("string", "large_string", "string_view", "null")  # a column without any value has the type null


def require_pyarrow(who: str) -> None:
    """Refuse a file that only `pyarrow` can read where there is none.

    Raises:
        DataError: With what to install.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"{who} needs the package `pyarrow`, which reads {PARQUET}: pip install 'calmkit[parquet]'"
        ) from error


def parquet_texts(path: Path, text_key: str) -> Iterator[str | BadRecord]:
    """The text of every row, in order; rows are counted from 1.

    Raises:
        DataError: `pyarrow` is missing, the file is damaged, or it has no column of text under the key.
    """
    require_pyarrow(str(path))
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_column(file.schema_arrow, text_key, path)
            for batch in file.iter_batches(BATCH_ROWS, columns=[text_key]):
                for cell in batch.column(text_key):
                    number += 1
                    yield _text(cell, text_key, f"{path}:{number}", number)
    except pyarrow.ArrowException as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path} is damaged or no Parquet file ({reason}); make it again") from error
    except OSError as error:
        reason = error.strerror or str(error).strip().splitlines()[0]
        raise DataError(f"{path} cannot be read ({reason}); check that it is there and whole") from error


def _check_column(schema: Any, text_key: str, path: Path) -> None:
    columns = schema.names.count(text_key)
    if columns != 1:
        raise DataError(
            f"{path} has {columns or 'no'} column{'s' if columns else ''} '{text_key}', of "
            f"{', '.join(schema.names)}; set data.text_key to the one of the text"
        )
    kind = schema.field(text_key).type
    value = kind.value_type if str(kind).startswith("dictionary") else kind
    if str(value) not in TEXTS:
        raise DataError(
            f"{path}: the column '{text_key}' is {kind}, not text; set data.text_key to a column of text, "
            f"of {', '.join(schema.names)}"
        )


def _text(cell: Any, text_key: str, where: str, number: int) -> str | BadRecord:
    try:
        text = cell.as_py()
    except UnicodeDecodeError as error:
        message = f"{where}: '{text_key}' is not UTF-8 ({error}); write the file anew from text"
        return BadRecord(message, number, "not UTF-8")
    if text is None:
        message = f"{where}: '{text_key}' is null, not text; leave such rows out of the file"
        return BadRecord(message, number, "null")
    return text
