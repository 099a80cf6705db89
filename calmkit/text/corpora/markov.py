"""Letters from a Markov source: a text whose best possible scores are known.

A document is a stretch of the stationary source of `document_length` letters, so with its end-of-text it is
`document_length + 1` tokens. Where that divides `sequence_length` the rows of a run hold whole documents, the
ends stand at fixed places, and a model can know all there is to know.

Source: Shannon, A Mathematical Theory of Communication, 1948, section 2.
https://doi.org/10.1002/j.1538-7305.1948.tb01338.x
"""

from __future__ import annotations

import functools
import string
from collections.abc import Iterator
from typing import final

import numpy as np

from calmkit.data.digest import digest
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Corpus, DataError, KnownSource, Split
from calmkit.nn.settings import require_at_least
from calmkit.text.markov_source import MarkovSource, check_source, require_at_most
from calmkit.text.sized_corpus import SizedCorpus
from calmkit.text.stationary_law import DIRECT_CONTEXTS

LETTERS = string.ascii_lowercase + string.ascii_uppercase
BLOCK_LETTERS = 2**22  # drawn at once
STREAMS: dict[Split, int] = {"train": 1, "valid": 2}  # the table is drawn from stream 0


@final
class MarkovCorpus(SizedCorpus, KnownSource):
    """A synthetic text from a Markov source of chosen order, alphabet and seed; its best scores are known.

    Args:
        order: Letters that the next one depends on; 0: independent letters.
        alphabet: Number of letters, from 2 to 52: a-z, then A-Z.
        concentration: Of the Dirichlet law of each row of the table: the smaller, the surer the next letter.
        seed: Of the table and of the text.
        train_tokens: Size of the training split, rounded up to whole documents, end-of-text included.
        valid_tokens: The same of the held-out split.
        document_length: Letters in a document. The default makes rows of 256 tokens, one document each.

    Raises:
        ValueError: A setting out of range, or a table without one long-run law (up to 1024 contexts, else
            when `source` is first read).
    """

    def __init__(
        self,
        *,
        order: int = 2,
        alphabet: int = 8,
        concentration: float = 0.2,
        seed: int = 0,
        train_tokens: int = 1_000_000,
        valid_tokens: int = 100_000,
        document_length: int = 255,
    ) -> None:
        require_at_most(len(LETTERS), alphabet)
        check_source(order, alphabet, concentration)
        sizes = {"train_tokens": train_tokens, "valid_tokens": valid_tokens}
        require_at_least("markov", 1, **sizes, document_length=document_length)
        require_at_least("markov", 0, seed=seed)
        self._source = (order, alphabet, concentration, seed)
        self.seed = seed
        self.document_length = document_length
        self.num_documents = {
            "train": -(-train_tokens // (document_length + 1)),
            "valid": -(-valid_tokens // (document_length + 1)),
        }
        if alphabet**order <= DIRECT_CONTEXTS:
            _ = self.source  # refuses a seed before data is touched; larger tables wait until they are read

    @functools.cached_property
    def source(self) -> MarkovSource:
        """The law of the letters.

        Raises:
            ValueError: For a law that has no long run, or none that is found in time.
        """
        return MarkovSource.random(*self._source)

    def _read(self) -> MarkovSource:
        """The source where text is asked for: what is wrong with a large table is known only then."""
        try:
            return self.source
        except ValueError as error:
            raise DataError(f"The corpus can't be made: {error}") from error

    def documents(self, split: Split) -> Iterator[str]:
        """Independent documents of equal length; `valid` shares only the source with `train`."""
        source, alphabet = self._read(), np.frombuffer(LETTERS.encode(), dtype=np.uint8)
        at_once = max(1, BLOCK_LETTERS // self.document_length)
        for block in range(0, self.num_documents[split], at_once):
            rng = np.random.default_rng([self.seed, STREAMS[split], block])
            number = min(at_once, self.num_documents[split] - block)
            for letters in alphabet[source.draw(rng, number, self.document_length)]:
                yield letters.tobytes().decode("ascii")

    def identity(self) -> str:
        """By all settings, and by the table, which another version of NumPy may draw differently."""
        settings = (*self._source, self.document_length, *self.num_documents.values())
        return f"markov-{digest(repr(settings), self._read().tables[-1].tobytes())}"

    def expected_bytes(self, split: Split) -> int:
        """Exactly."""
        return self.num_documents[split] * self.document_length

    def best_brier(self, seen: int, length: int) -> float:
        """See `MarkovSource.best_brier`."""
        return self.source.best_brier(seen, length)

    def entropy(self, seen: int) -> float:
        """See `MarkovSource.entropy`."""
        return self.source.entropy(seen)


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """The world whose truth is known."""
    return {"markov": MarkovCorpus}
