"""Bytes as tokens: 256 of them and end-of-text. Any text, no training, the smallest vocabulary there is.

Source: Xue et al., ByT5: Towards a token-free future with pre-trained byte-to-byte models, 2021, section 3.1.
https://arxiv.org/abs/2105.13626
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import TextCorpus, Tokenizer
from calmkit.text.tokenizer_json import utf8

EOS = 256


@final
class BytesTokenizer(Tokenizer):
    """The bytes of UTF-8, and 256 for end-of-text."""

    def __init__(self) -> None:
        self.vocab_size = EOS + 1
        self.eos_id = EOS

    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        """Itself: there is nothing to learn."""
        del corpus, cache
        return self

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """One id for each byte."""
        return [list(utf8(text)) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """What is no UTF-8, as a model may write it, becomes the replacement character."""
        return bytes(token for token in ids if token != EOS).decode("utf-8", errors="replace")

    def token_lengths(self) -> Sequence[int]:
        """One byte each."""
        return [1] * EOS + [0]

    def fingerprint(self) -> str:
        """The same for all of them."""
        return "bytes-257"

    def save(self, folder: Path) -> None:
        """Nothing to keep."""
        del folder

    def restore(self, folder: Path) -> Tokenizer:
        """Itself."""
        del folder
        return self


@hookimpl
def calmkit_tokenizers() -> dict[str, type[Tokenizer]]:
    """The one without settings."""
    return {"bytes": BytesTokenizer}
