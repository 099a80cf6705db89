"""Your own numbers: .csv files, one line a point in time, one column a series.

A series is cut in time: what comes last is held out, for that is what a forecast is asked for. A line that is
left out leaves a gap, and no row of a batch reaches over it.

Source: comma-separated values, RFC 4180. https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import final

import numpy as np

from calmkit.data.bad_records import MAX_BAD, BadRecord, OnBad, Skipped, check_max_bad
from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction
from calmkit.interfaces import DataError, Split
from calmkit_series.corpus import SeriesCorpus, Stretch
from calmkit_series.csv_lines import columns_of, find_files, numbers_of


@final
class CsvCorpus(SeriesCorpus):
    """Series from .csv files: each column of numbers of each file is one.

    Args:
        train: One or more paths, folders or globs.
        valid: The same for validation. None: the last `valid_fraction` of each series is held out.
        columns: Names of the header, or numbers from 1; None: all columns.
        delimiter: Between two cells.
        valid_fraction: Of the values of each series; without effect where `valid` is given.
        on_bad: A line without a finite number in a column is refused, or skipped, counted and told; the
            series then has a gap.
        max_bad: More than this share of the lines is refused all the same.

    Raises:
        ValueError: A share that is none, or a delimiter of several characters.
    """

    def __init__(
        self,
        *,
        train: str | list[str],
        valid: str | list[str] | None = None,
        columns: list[str] | None = None,
        delimiter: str = ",",
        valid_fraction: float = 0.2,
        on_bad: OnBad = "refuse",
        max_bad: float = MAX_BAD,
    ) -> None:
        check_fraction("series_csv", valid_fraction)
        check_max_bad("series_csv", max_bad)
        if len(delimiter) != 1:
            raise ValueError(f"series_csv: delimiter is one character, got {delimiter!r}; ',' would do")
        self.train, self.valid = _as_list(train), None if valid is None else _as_list(valid)
        self.columns, self.delimiter = columns, delimiter
        self.valid_fraction, self.on_bad, self.max_bad = valid_fraction, on_bad, max_bad
        self._known: dict[Split, tuple[list[Stretch], Skipped]] = {}

    def stretches(self, split: Split) -> list[Stretch]:
        """File by file and column by column; those of one series in the order of time.

        Raises:
            DataError: See `SeriesCorpus.stretches`; or more lines are bad than `max_bad` allows.
        """
        found = self._read("train" if self.valid is None else split)[0]
        if self.valid is None:
            found = [part for one in _series(found) for part in _cut(one, split, self.valid_fraction)]
        if not found:
            raise DataError(f"the {split} split of data.{split} holds no value; give longer files")
        return found

    def identity(self) -> str:
        """By the numbers, not by the names of the files, and by the cut between the splits."""
        said = [repr(self.valid_fraction)] if self.valid is None else []
        for split in self._settings:
            said += [f"{one.series} {digest(one.values.tobytes())}" for one in self._read(split)[0]]
            said.append(split)
        return f"series_csv-{digest(*said)}"

    def notes(self) -> list[str]:
        """What was skipped, a line for each setting that names files."""
        told = []
        for split in self._settings:
            skipped = self._read(split)[1]
            if skipped.bad:
                place = functools.partial(self._place, split)
                told.append(skipped.note(f"data.{split}", "lines", place))
        return told

    def _read(self, split: Split) -> tuple[list[Stretch], Skipped]:
        """All stretches of the files of a setting, read once."""
        if split not in self._known:
            self._known[split] = self._read_files(split)
        return self._known[split]

    def _read_files(self, split: Split) -> tuple[list[Stretch], Skipped]:
        skipped, found, before = Skipped(), list[Stretch](), 0
        for index, path in enumerate(self._files(split)):
            places = columns_of(path, self.delimiter, self.columns)
            runs: list[list[list[float]]] = [[]]
            for line in numbers_of(path, self.delimiter, places):
                if isinstance(line, BadRecord):
                    skipped.leave_out(line, index, self.on_bad)
                    runs.append([])
                    continue
                skipped.records += 1
                runs[-1].append(line)
            for column in range(len(places)):
                series = (np.array([line[column] for line in run]) for run in runs if run)
                found += [Stretch(before + column, values) for values in series]
            before += len(places)
        suspects = "data.columns and data.delimiter are those"
        skipped.check(self.max_bad, "lines", functools.partial(self._place, split), suspects)
        return found, skipped

    @property
    def _settings(self) -> tuple[Split, ...]:
        """The settings that name files."""
        return ("train",) if self.valid is None else ("train", "valid")

    def _files(self, split: Split) -> list[Path]:
        return find_files(self.train if split == "train" else self.valid or [], f"data.{split}")

    def _place(self, split: Split, file: int, number: int) -> str:
        return f"{self._files(split)[file]}:{number}"


def _series(stretches: list[Stretch]) -> list[list[Stretch]]:
    """The stretches of each series together."""
    by_number: dict[int, list[Stretch]] = {}
    for one in stretches:
        by_number.setdefault(one.series, []).append(one)
    return list(by_number.values())


def _cut(stretches: list[Stretch], split: Split, fraction: float) -> list[Stretch]:
    """The first or the last values of one series."""
    total = sum(len(one.values) for one in stretches)
    last = total - round(fraction * total)  # the first value that is held out
    found, before = [], 0
    for one in stretches:
        at = min(max(last - before, 0), len(one.values))
        values = one.values[:at] if split == "train" else one.values[at:]
        before += len(one.values)
        if len(values):
            found.append(Stretch(one.series, values))
    return found


def _as_list(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths)
