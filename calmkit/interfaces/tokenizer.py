"""Tokenizer: between text and ids. End-of-text is one of its ids; a tokenizer without one is refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from calmkit.interfaces.corpus import TextCorpus


class Tokenizer(ABC):
    """Text <-> ids. The constructor is `(*, ...)`, all of it settable in a recipe.

    Attributes:
        vocab_size: V: ids are below it. Before `prepare` it may be the size planned by the settings.
        eos_id: The id of end-of-text.
    """

    vocab_size: int
    eos_id: int

    @abstractmethod
    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        """A tokenizer that is ready: itself, or one trained on the corpus' train split and kept under
        `cache`.
        """

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without end-of-text."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; end-of-text gives no characters, broken UTF-8 the replacement character."""

    @abstractmethod
    def token_lengths(self) -> Sequence[int]:
        """UTF-8 bytes that each id stands for, one entry per id; 0 for end-of-text. For rates per byte."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A short text equal for two tokenizers exactly if they map all texts to the same ids."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `restore` needs into the folder."""

    @abstractmethod
    def restore(self, folder: Path) -> Tokenizer:
        """The tokenizer that `save` wrote, ready."""
