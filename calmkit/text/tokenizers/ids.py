"""Token ids as text: numbers with spaces between them, for a model whose tokenizer is not at hand.

Source: the ids of any tokenizer, such as one of https://huggingface.co/docs/tokenizers/api/tokenizer
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import DataError, TextCorpus, Tokenizer


@final
class IdsTokenizer(Tokenizer):
    """Text is numbers: "12 7 300 ". For models that came without a tokenizer.

    Args:
        size: V; numbers are below it.
        eos: The id of end-of-text, which no text may hold.
    """

    def __init__(self, *, size: int, eos: int) -> None:
        if not 0 <= eos < size:
            raise ValueError(f"ids: eos must be an id below size {size}, got {eos}; {size - 1} would do.")
        self.vocab_size, self.eos_id = size, eos

    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        """Itself: there is nothing to learn."""
        del corpus, cache
        return self

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The numbers of each text.

        Raises:
            DataError: A word is no id below V, or is end-of-text.
        """
        return [[self._id(word) for word in text.split()] for text in texts]

    def _id(self, word: str) -> int:
        token = int(word) if word.isascii() and word.isdigit() else self.vocab_size
        if token >= self.vocab_size or token == self.eos_id:
            raise DataError(
                f"the tokenizer 'ids' reads numbers below {self.vocab_size} other than {self.eos_id}, got "
                f"{word[:40]!r}; a model imported without a tokenizer takes no words: import it again with "
                "--tokenizer FILE, or with texts of ids to evaluate on (data=text data.train=FILE.jsonl)"
            )
        return token

    def decode(self, ids: Sequence[int]) -> str:
        """A space behind each number."""
        return "".join(f"{token} " for token in ids if token != self.eos_id)

    def token_lengths(self) -> Sequence[int]:
        """Digits, and the space."""
        return [0 if token == self.eos_id else len(str(token)) + 1 for token in range(self.vocab_size)]

    def fingerprint(self) -> str:
        """The settings."""
        return f"ids-{self.vocab_size}-{self.eos_id}"

    def save(self, folder: Path) -> None:
        """Nothing to keep: the settings are in the recipe."""
        del folder

    def restore(self, folder: Path) -> Tokenizer:
        """Itself."""
        del folder
        return self


@hookimpl
def calmkit_tokenizers() -> dict[str, type[Tokenizer]]:
    """The one that needs no file."""
    return {"ids": IdsTokenizer}
