"""A corpus that tells how far it has been read, for those who read it through and tell nothing themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

from calmkit.interfaces import Split, TextCorpus

EVERY_BYTES = 1 << 20
EVERY_DOCUMENTS = 1024


@final
class CountedCorpus(TextCorpus):
    """Another corpus, document by document the same.

    Args:
        corpus: The other.
        progress: Called with documents and bytes of text so far: before the first, and now and then.
        ended: The same, after the last.
    """

    def __init__(
        self, corpus: TextCorpus, progress: Callable[[int, int], None], ended: Callable[[int, int], None]
    ) -> None:
        self.corpus, self.progress, self.ended = corpus, progress, ended

    def documents(self, split: Split) -> Iterator[str]:
        """Those of the other corpus."""
        count, size, told = 0, 0, (0, 0)
        self.progress(0, 0)
        for text in self.corpus.documents(split):
            yield text
            count, size = count + 1, size + len(text.encode(errors="replace"))
            if count - told[0] >= EVERY_DOCUMENTS or size - told[1] >= EVERY_BYTES:
                told = count, size
                self.progress(count, size)
        self.ended(count, size)

    def identity(self) -> str:
        """That of the other corpus."""
        return self.corpus.identity()
