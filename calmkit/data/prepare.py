"""From a corpus and a tokenizer to token files: what a run does once, before it trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calmkit.data.counted_corpus import CountedCorpus
from calmkit.data.digest import digest
from calmkit.data.notes import leak_notes, skipped_notes
from calmkit.data.overlap import Overlap, overlap
from calmkit.data.sized_corpus import SizedCorpus
from calmkit.data.token_file import TokenFile
from calmkit.interfaces import Corpus, Split, Tokenizer

Reading = Callable[[str, int, int, int | None], None]
"""Told while text is read: what for (`tokenizer`, then `learning` once it has read all, `train`, `valid`),
documents and bytes of text so far, and about how many bytes there are, None where the corpus does not know.
"""


@dataclass(frozen=True)
class PreparedData:
    """The tokenizer, ready, and both splits, tokenised.

    Attributes:
        fingerprint: Of the text, its split and the tokenizer.
        leaked: The held-out documents that also stand in the training text.
        notes: What a person must know of the text, a line each: what was skipped, what leaks.
    """

    tokenizer: Tokenizer
    train: TokenFile
    valid: TokenFile
    fingerprint: str
    leaked: Overlap
    notes: tuple[str, ...]

    @property
    def notes_of_reading(self) -> tuple[str, ...]:
        """The notes but for the last one, of what leaks, where something does."""
        return self.notes[: len(self.notes) - bool(self.leaked.shared)]


def prepare_data(
    corpus: Corpus, tokenizer: Tokenizer, cache: Path, progress: Reading | None = None
) -> PreparedData:
    """Train the tokenizer and tokenise both splits, or take from the cache what was done before.

    Args:
        corpus: The documents.
        tokenizer: Need not be ready.
        cache: See `default_cache`.
        progress: Called while text is read, first with nothing read; not where all is in the cache.

    Raises:
        DataError: A split is empty, or anything `Corpus.documents`, `Tokenizer.prepare` and
            `TokenFile.build` refuse.
    """
    told = progress or _tell_nobody

    def read_for(what: str, split: Split) -> Callable[[int, int], None]:
        return lambda documents, size: told(what, documents, size, _size_of(corpus, split))

    counted = CountedCorpus(corpus, read_for("tokenizer", "train"), read_for("learning", "train"))
    ready = tokenizer.prepare(counted, cache)
    train = TokenFile.build(corpus, "train", ready, cache, read_for("train", "train"))
    valid = TokenFile.build(corpus, "valid", ready, cache, read_for("valid", "valid"))
    leaked = overlap(train, valid, cache)
    notes = (*skipped_notes(corpus, train, valid), *leak_notes(corpus, leaked))
    fingerprint = digest(corpus.identity(), ready.fingerprint())
    return PreparedData(ready, train, valid, fingerprint, leaked, notes)


def _tell_nobody(what: str, documents: int, size: int, expected: int | None) -> None:
    """Nobody looks."""


def _size_of(corpus: Corpus, split: Split) -> int | None:
    return corpus.expected_bytes(split) if isinstance(corpus, SizedCorpus) else None


def default_cache() -> Path:
    """`CALMKIT_CACHE`, else `calmkit` in `XDG_CACHE_HOME`, else `~/.cache/calmkit`."""
    chosen = os.environ.get("CALMKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calmkit"
