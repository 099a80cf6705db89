"""From a corpus and a tokenizer to token files: what a run does once, before it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calmkit.data.digest import digest
from calmkit.interfaces import Autoencoder, Prepared, Split, TextCorpus, Tokenizer
from calmkit.text.counted_corpus import CountedCorpus
from calmkit.text.datamodule import TextDataModule
from calmkit.text.notes import leak_notes, skipped_notes
from calmkit.text.overlap import Overlap, overlap
from calmkit.text.sized_corpus import SizedCorpus
from calmkit.text.token_file import TokenFile
from calmkit.text.units import chunk_size_of

Reading = Callable[[str, int, int, int | None], None]
"""Told while text is read: what for (`tokenizer`, then `learning` once it has read all, `train`, `valid`),
documents and bytes of text so far, and about how many bytes there are, None where the corpus does not know.
"""


@dataclass(frozen=True)
class PreparedData(Prepared):
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
    def sizes(self) -> dict[str, Any]:  # type: ignore[override]
        """What parts are built with."""
        return {"vocab_size": self.tokenizer.vocab_size}

    @property
    def told(self) -> str:  # type: ignore[override]
        """How many tokens there are."""
        sizes = f"{len(self.train.tokens):,} training and {len(self.valid.tokens):,} held-out tokens"
        return f"{sizes} of {self.tokenizer.vocab_size} kinds"

    def facts(self, autoencoder: Autoencoder) -> dict[str, Any]:
        """Sizes, end-of-text, the tokenizer and the units."""
        return {
            "vocab_size": self.tokenizer.vocab_size,
            "eos_id": self.tokenizer.eos_id,
            "tokenizer": self.tokenizer.fingerprint(),
            "chunk_size": chunk_size_of(autoencoder),
            "event": list(autoencoder.event.shape),
        }

    def save(self, folder: Path) -> None:
        """The tokenizer."""
        self.tokenizer.save(folder)

    def rows(
        self,
        recipe: Any,
        autoencoder: Autoencoder,
        *,
        batch_size: int,
        max_rows: int,
        among: int | None = None,
    ) -> TextDataModule:
        """Packed rows."""
        return TextDataModule(
            self.train,
            self.valid,
            chunk_size=chunk_size_of(autoencoder),
            sequence_length=recipe.data.length,
            eos_id=self.tokenizer.eos_id,
            batch_size=batch_size,
            eval_batch_size=recipe.evaluation.batch_size,
            seed=recipe.seed,
            max_eval_rows=max_rows,
            among=among,
        )

    def scores(self) -> dict[str, float]:
        """`leaked_documents`: share of the held-out documents that also stand in the training text."""
        return {"leaked_documents": self.leaked.share}

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
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
