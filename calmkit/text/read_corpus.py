"""A corpus of records that somebody else wrote: lets what is wrong with them be told by place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from calmkit.data.bad_records import Skipped
from calmkit.interfaces import Split, TextCorpus


class ReadCorpus(TextCorpus):
    """A capability: a corpus that can say where its text comes from, and which records it leaves out.

    Attributes:
        apart: How its settings keep the two splits apart, for a message.
    """

    apart: str

    @abstractmethod
    def read(self, split: Split, skipped: Skipped) -> Iterator[str]:
        """`documents`, which also notes in `skipped` what is left out: whole once all are read.

        Raises:
            DataError: As `documents`.
        """

    def documents(self, split: Split) -> Iterator[str]:
        """See `read`."""
        return self.read(split, Skipped())

    @abstractmethod
    def source(self, split: Split) -> str:
        """The setting that a split comes from, as in a recipe: `data.train=a.jsonl`."""

    @abstractmethod
    def unit(self, split: Split) -> str:
        """What its records are, in the plural: lines."""

    @abstractmethod
    def place(self, split: Split, file: int, number: int) -> str:
        """Names the record that `Skipped` knows by these two: `a.jsonl:7`."""
