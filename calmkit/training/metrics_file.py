"""metrics.csv: a line for every step that is logged; a run that goes on has each line once."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from calmkit.sums import drop_sums, put_sums
from calmkit.training.checkpoints import check_file, write_text
from calmkit.training.errors import RunFailed

METRICS = "metrics.csv"
LIGHTNINGS = "epoch"  # a count of its own: rows come in one stream, and a run that goes on counts anew
FLUSH_EVERY, FLUSH_SECONDS = 50, 5.0
"""Lines, or seconds, that a killed process may lose; what a snapshot counts is on the disk before it is."""


@final
class MetricsFile(Logger):
    """The logger `csv`: `metrics.csv` in a run folder, a column for each metric, in the order they came in.

    Args:
        folder: Of the run. Lines that are there already stay, and their columns.

    Raises:
        RunFailed: The file that is there was cut or altered.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.columns: list[str] = []
        self.lines = 0
        self._new: list[dict[str, Any]] = []
        self._saved = time.monotonic()
        if self.path.is_file():
            check_file(self.path)
            self.columns, rows = _read(self.path)
            self.lines = len(rows)

    @property
    def name(self) -> str | None:
        """None: its place is the run folder."""
        return None

    @property
    def version(self) -> str:
        """Empty, as there is one."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the recipe is in the run folder."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """A line."""
        line = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in metrics.items()
            if name != LIGHTNINGS
        }
        self._new.append(line if step is None else line | {"step": step})
        if len(self._new) >= FLUSH_EVERY or time.monotonic() - self._saved > FLUSH_SECONDS:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write what is new."""
        self._saved = time.monotonic()
        if not self._new:
            return
        before = len(self.columns)
        for line in self._new:
            self.columns += [name for name in sorted(line) if name not in self.columns]
        if before and before == len(self.columns):
            text, mode = _lines(self._new, self.columns), "a"
        else:
            rows = _read(self.path)[1] if before else []
            text, mode = _header(self.columns) + _lines([*rows, *self._new], self.columns), "w"
        if mode == "w":
            write_text(self.path, text)
        else:
            drop_sums(self.path)  # it grows; it gets a line of its own again in `finalize`
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text)
        self.lines += len(self._new)
        self._new = []

    def cut(self, lines: int) -> None:
        """Forget all lines behind so many: a run goes on from before them."""
        self._new = []
        if self.path.is_file():  # also where no whole line is too many: a killed process may have cut one
            kept = _read(self.path)[1][:lines]
            self.columns = [name for name in self.columns if any(row.get(name) for row in kept)]
            write_text(self.path, _header(self.columns) + _lines(kept, self.columns) if kept else "")
        self.lines = min(lines, self.lines)

    def digest(self) -> str:
        """SHA-256 of all lines, whatever columns come later; empty where there is no file."""
        return _digest_of(_read(self.path)[1]) if self.path.is_file() else ""

    def check(self, lines: int, digest: str) -> None:
        """Refuse a file whose first lines are not those of which a snapshot knows the `digest`; one that is
        gone is begun anew.

        Raises:
            RunFailed: They were cut or altered.
        """
        if digest and self.path.is_file() and _digest_of(_read(self.path)[1][:lines]) != digest:
            raise RunFailed(
                f"{self.path} was cut or altered: its first {lines} lines are not those that the checkpoint "
                "knows. Take it from a copy; or delete it, and the run goes on without the losses before."
            )

    def first_line(self, lead: str) -> int:
        """The number of the first line with a metric whose name begins so; that of the lines if none has."""
        rows = _read(self.path)[1] if self.path.is_file() else []
        having = (
            number
            for number, row in enumerate(rows)
            if any(value for name, value in row.items() if name.startswith(lead))
        )
        return next(having, len(rows))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is new."""
        del status
        self.save()
        if self.path.is_file():
            put_sums(self.path)


def read_metrics(run: Path) -> list[dict[str, str]]:
    """The lines of `metrics.csv` of a run folder, which must be there; what is unknown is empty.

    Raises:
        RunFailed: It was cut or altered, or is no table of numbers.
    """
    path = run / METRICS
    check_file(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            [float(text) for text in row.values() if text]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RunFailed(f"{path} is damaged ({error}). Take it from a copy, or delete it.") from error
    return rows


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and whole lines; a line that a killed process cut is left out."""
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    rows = [row for row in reader if None not in row and None not in row.values()]
    return list(reader.fieldnames or []), rows


def _digest_of(rows: list[dict[str, Any]]) -> str:
    known = [{name: value for name, value in row.items() if value} for row in rows]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _header(columns: list[str]) -> str:
    return _lines([{name: name for name in columns}], columns)


def _lines(rows: list[dict[str, Any]], columns: list[str]) -> str:
    file = io.StringIO()
    csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n").writerows(rows)
    return file.getvalue()
