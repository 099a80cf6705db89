"""Lines of a CSV file of numbers: one line a point in time, one column a series.

Source: comma-separated values, RFC 4180. https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from calmkit.data.bad_records import BadRecord
from calmkit.interfaces import DataError


def find_files(paths: Sequence[str], key: str) -> list[Path]:
    """The files that paths, folders and globs name, each once, in the order of their names.

    Args:
        paths: A folder stands for every `.csv` in it.
        key: Of the recipe, for the error.

    Raises:
        DataError: One names nothing.
    """
    found: dict[Path, None] = {}
    for one in paths:
        path = Path(one).expanduser()
        if path.is_dir():
            here = sorted(path.rglob("*.csv"))
        else:
            here = [path] if path.is_file() else sorted(path.parent.glob(path.name))
        if not here:
            raise DataError(f"{key}: there is no file {one}; name a .csv, a folder of them, or a glob")
        found |= dict.fromkeys(here)
    return list(found)


def read_lines(path: Path, delimiter: str) -> Iterator[list[str]]:
    """The cells of each line.

    Raises:
        DataError: The file cannot be read, or is no UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file, delimiter=delimiter)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as text with '{delimiter}' between cells: {error}") from error


def number(cell: str) -> float | None:
    """The finite number in a cell; None where there is none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def header_of(path: Path, delimiter: str) -> list[str] | None:
    """The names of the columns: the first line, unless all of its cells are numbers; None: without names.

    Raises:
        DataError: The file is empty, or cannot be read.
    """
    for line in read_lines(path, delimiter):
        return None if all(number(cell) is not None for cell in line) else [cell.strip() for cell in line]
    raise DataError(f"{path} is empty; a line of numbers for each point in time is needed")


def columns_of(path: Path, delimiter: str, wished: Sequence[str] | None) -> list[int]:
    """The places of the columns that are wished for, by name or by number from 1; None: all.

    Raises:
        DataError: One is not there.
    """
    names = header_of(path, delimiter)
    first = next(read_lines(path, delimiter))
    if wished is None:
        return list(range(len(first)))
    places = []
    for one in wished:
        if names is not None and one in names:
            places.append(names.index(one))
        elif one.isdecimal() and 1 <= int(one) <= len(first):
            places.append(int(one) - 1)
        else:
            told = ", ".join(names) if names is not None else f"1 to {len(first)}"
            raise DataError(f"{path} has no column '{one}' (data.columns); there are: {told}")
    return places


def numbers_of(path: Path, delimiter: str, places: Sequence[int]) -> Iterator[list[float] | BadRecord]:
    """The numbers of each line behind the header in these columns, or what is wrong with the line.

    Empty lines are passed over.
    """
    lines = enumerate(read_lines(path, delimiter), start=1)
    if header_of(path, delimiter) is not None:
        next(lines)
    for line_number, line in lines:
        if not line:
            continue
        found: list[float] = []
        for place in places:
            cell = line[place] if place < len(line) else None
            value = None if cell is None else number(cell)
            if value is None:
                seen = "nothing" if cell is None else f"'{cell[:20]}'"
                message = f"{path}:{line_number}: column {place + 1} holds {seen}, which is no finite number"
                yield BadRecord(message, line_number, "too few cells" if cell is None else "no finite number")
                break
            found.append(value)
        else:
            yield found
