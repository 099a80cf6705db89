"""Numbers in and out: prompts as text or files, rows as CSV."""

from __future__ import annotations

import re
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from calmkit.data.bad_records import BadRecord
from calmkit.interfaces import DataError
from calmkit_series.csv_lines import number, numbers_of

SHOWN = ".6g"


def read_prompt(prompt: str) -> list[float]:
    """The numbers of a prompt, or of the first column of the .csv that it names.

    Raises:
        ValueError: There is something else in it.
    """
    if prompt.strip().endswith(".csv"):
        return _of_file(Path(prompt.strip()).expanduser())
    found = []
    for word in re.split(r"[,;\s]+", prompt.strip()):
        value = number(word)
        if value is None and word:
            raise ValueError(f"--prompt is numbers such as 0.1,0.2 or a .csv file; '{word}' is no number")
        found += [] if value is None else [value]
    return found


def _of_file(path: Path) -> list[float]:
    try:
        lines = list(numbers_of(path, ",", [0]))
    except DataError as error:
        raise ValueError(f"--prompt: {error}") from error
    bad = next((line for line in lines if isinstance(line, BadRecord)), None)
    if bad is not None:
        raise ValueError(f"--prompt: {bad}")
    return [line[0] for line in lines if not isinstance(line, BadRecord)]


def as_csv(rows: Float[Tensor, "num length"]) -> str:
    """One column a row, one line a value, under a header."""
    header = ",".join(f"row_{number}" for number in range(1, len(rows) + 1))
    lines = (",".join(format(value, SHOWN) for value in line) for line in rows.T.tolist())
    return "\n".join([header, *lines]) + "\n"
