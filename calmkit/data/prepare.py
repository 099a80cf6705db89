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
from calmkit.interfaces import Split, TextCorpus, Tokenizer

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
        skipped_notes: What was left out of the text, a line each.
        leak_notes: What leaks, a line, where something does.
    """

    tokenizer: Tokenizer
    train: TokenFile
    valid: TokenFile
    fingerprint: str
    leaked: Overlap
    skipped_notes: tuple[str, ...]
    leak_notes: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a person must know of the text."""
        return self.skipped_notes + self.leak_notes


def prepare_data(
    corpus: TextCorpus, tokenizer: Tokenizer, cache: Path, progress: Reading | None = None
) -> PreparedData:
    """Train the tokenizer and tokenise both splits, or take from the cache what was done before.

    Args:
        corpus: The documents.
        tokenizer: Need not be ready.
        cache: See `default_cache`.
        progress: Called while text is read, first with nothing read; not where all is in the cache.

    Raises:
        DataError: A split is empty, or anything `TextCorpus.documents`, `Tokenizer.prepare` and
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
    skipped, leaks = tuple(skipped_notes(corpus, train, valid)), tuple(leak_notes(corpus, leaked))
    fingerprint = digest(corpus.identity(), ready.fingerprint())
    return PreparedData(ready, train, valid, fingerprint, leaked, skipped, leaks)


def _tell_nobody(what: str, documents: int, size: int, expected: int | None) -> None:
    """Nobody looks."""


def _size_of(corpus: TextCorpus, split: Split) -> int | None:
    return corpus.expected_bytes(split) if isinstance(corpus, SizedCorpus) else None


def default_cache() -> Path:
    """`CALMKIT_CACHE`, else `calmkit` in `XDG_CACHE_HOME`, else `~/.cache/calmkit`."""
    chosen = os.environ.get("CALMKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calmkit"
