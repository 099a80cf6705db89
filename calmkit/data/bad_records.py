"""Records of a corpus that hold nothing that can be used: refused at the first, or skipped, counted and told.

A record is what makes one document or one image: a line of a .jsonl, a row of a table, a whole file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal, final

from calmkit.interfaces import DataError

OnBad = Literal["refuse", "skip"]
MAX_BAD = 0.05  # a few broken records are an accident of writing; one in twenty is another format or key
PLACES = 5  # told one by one; of the others the kinds are counted
LONGEST_KIND = 40  # characters: kinds stand in the header of a token file, which is short
Place = Callable[[int, int], str]
"""Names a record by the index of its file and its number there."""


@final
class BadRecord(DataError):
    """A record without anything that can be used.

    Attributes:
        number: Of the record, as its file counts; 0 for a whole file.
        kind: What is wrong with it in a few words, the same for all of a kind: `not JSON`.
    """

    def __init__(self, message: str, number: int, kind: str) -> None:
        self.number, self.kind = number, kind[:LONGEST_KIND]
        super().__init__(message)


@dataclass
class Skipped:
    """What one reading of a split left out.

    Attributes:
        records: All that were read, bad or not.
        kinds: Kind -> how many bad ones.
        places: Index of the file, number of the record there and kind, of the first `PLACES`.
    """

    records: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    places: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """How many were left out."""
        return sum(self.kinds.values())

    def keep(self, found: Iterable[str | BadRecord], file: int, on_bad: OnBad) -> Iterator[str]:
        """The texts that are not blank; bad records are noted here, or the first one is raised."""
        for one in found:
            if isinstance(one, BadRecord):
                self.leave_out(one, file, on_bad)
                continue
            self.records += 1
            if one.strip():
                yield one

    def leave_out(self, bad: BadRecord, file: int, on_bad: OnBad) -> None:
        """Note a bad record as read and left out, or raise it."""
        self.records += 1
        if on_bad == "refuse":
            raise DataError(f"{bad}; data.on_bad=skip leaves a few such records out") from bad
        self.kinds[bad.kind] = self.kinds.get(bad.kind, 0) + 1
        if len(self.places) < PLACES:
            self.places.append((file, bad.number, bad.kind))

    def check(
        self, max_bad: float, unit: str, place: Place, suspects: str = "data.text_key and the files are those"
    ) -> None:
        """Refuse more than a share of bad records: what is wrong is then the setting, not the record.

        Args:
            max_bad: The share.
            unit: What the records are, in the plural.
            place: Names one.
            suspects: What may be another than is meant, in words.

        Raises:
            DataError: With count, ceiling, places and cure.
        """
        if self.bad and self.bad / self.records > max_bad:
            verb, share = "is" if self.bad == 1 else "are", percent(self.bad / self.records)
            raise DataError(
                f"{self.bad} of {self.records} {unit} {verb} bad ({share}), more than data.max_bad allows "
                f"({100 * max_bad:g} %): {self._told(place)}; see that {suspects} "
                "that are meant, mend them, or raise data.max_bad"
            )

    def note(self, source: str, unit: str, place: Place) -> str:
        """One line on what was left out of a source."""
        them = unit.removesuffix("s") if self.bad == 1 else unit
        return (
            f"skipped {self.bad} bad {them} of {self.records} in {source} "
            f"({percent(self.bad / self.records)}): {self._told(place)}; "
            "data.on_bad=refuse stops at the first"
        )

    def to_text(self) -> str:
        """For a file; nothing where nothing was left out."""
        return json.dumps(asdict(self)) if self.kinds else ""

    @classmethod
    def from_text(cls, text: str) -> Skipped:
        """What `to_text` wrote."""
        if not text:
            return cls()
        found = json.loads(text)
        return cls(found["records"], found["kinds"], [(f, n, kind) for f, n, kind in found["places"]])

    def _told(self, place: Place) -> str:
        told = ", ".join(f"{place(file, number)} ({kind})" for file, number, kind in self.places)
        if self.bad <= len(self.places):
            return told
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return f"{told} and {self.bad - len(self.places)} more; in all {kinds}"


def percent(share: float) -> str:
    """A share from 0 to 1 in words, rounded to tenths, but 100 % is all of them and 0 % is none."""
    tenths = round(1000 * share) if share in (0, 1) else min(round(1000 * share), 999)
    return f"{tenths / 10:g} %" if tenths or not share else "under 0.1 %"


def check_max_bad(part: str, max_bad: float) -> None:
    """Refuse a ceiling that is no share."""
    if not 0 <= max_bad <= 1:
        raise ValueError(
            f"{part}: max_bad is a share of all records, from 0 to 1, got {max_bad}; "
            f"{MAX_BAD} is one in twenty"
        )
