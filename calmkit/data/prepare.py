"""From a corpus and a tokenizer to token files: what a run does once, before it trains."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from calmkit.data.digest import digest
from calmkit.data.notes import leak_notes, skipped_notes
from calmkit.data.overlap import Overlap, overlap
from calmkit.data.token_file import Progress, TokenFile
from calmkit.interfaces import Corpus, Tokenizer


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


def prepare_data(
    corpus: Corpus, tokenizer: Tokenizer, cache: Path, progress: Progress | None = None
) -> PreparedData:
    """Train the tokenizer and tokenise both splits, or take from the cache what was done before.

    Args:
        corpus: The documents.
        tokenizer: Need not be ready.
        cache: See `default_cache`.
        progress: Called while a split is tokenised, with documents and bytes of text so far.

    Raises:
        DataError: A split is empty, or anything `Corpus.documents`, `Tokenizer.prepare` and
            `TokenFile.build` refuse.
    """
    ready = tokenizer.prepare(corpus, cache)
    train = TokenFile.build(corpus, "train", ready, cache, progress)
    valid = TokenFile.build(corpus, "valid", ready, cache, progress)
    leaked = overlap(train, valid, cache)
    notes = (*skipped_notes(corpus, train, valid), *leak_notes(corpus, leaked))
    fingerprint = digest(corpus.identity(), ready.fingerprint())
    return PreparedData(ready, train, valid, fingerprint, leaked, notes)


def default_cache() -> Path:
    """`CALMKIT_CACHE`, else `calmkit` in `XDG_CACHE_HOME`, else `~/.cache/calmkit`."""
    chosen = os.environ.get("CALMKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calmkit"
