"""A corpus that knows about how large it is before it is read: lets a full disk be foreseen."""

from __future__ import annotations

from abc import abstractmethod

from calmkit.interfaces import Split, TextCorpus


class SizedCorpus(TextCorpus):
    """A capability: a corpus that can tell its size without reading its documents."""

    @abstractmethod
    def expected_bytes(self, split: Split) -> int:
        """About how many UTF-8 bytes the documents of the split have together."""
