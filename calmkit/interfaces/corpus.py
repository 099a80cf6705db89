"""Corpus: where data come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

Split = Literal["train", "valid"]


class Corpus(ABC):
    """A source of data in two splits. The constructor is `(*, ...)`, all of it settable in a recipe; what a
    split holds, the class of its kind of data says.

    Attributes:
        data_kind: What kind of data it holds, the same for all of its kind: `text`.
    """

    data_kind: ClassVar[str]

    @abstractmethod
    def identity(self) -> str:
        """A text that changes whenever the data would: the key of what is cached."""

    @property
    def augmentation(self) -> str:
        """What is done to training rows anew in every epoch, as a text; empty where nothing is. The data and
        all that is measured on them stay the same, and what is trained on them does not.
        """
        return ""


class TextCorpus(Corpus):
    """A source of documents, split by document."""

    data_kind: ClassVar[str] = "text"

    @abstractmethod
    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split, in a fixed order.

        Raises:
            DataError: A file is missing, is not UTF-8, lacks the text key: naming file, place and cure.
        """


class KnownSource(TextCorpus):
    """A capability: documents of a known law, so that the best possible score can stand beside a model's.

    Documents are independent of each other, and the law of the characters that follow some others is the
    same all through a document. Every character must be a token of its own: where a tokenizer joins them,
    nothing is known.
    """

    @abstractmethod
    def best_brier(self, seen: int, length: int) -> float:
        """Expected Brier score of the true law of the next `length` characters, given the `seen` before them.

        It is E_c sum_x P(x | c)^2 over all contexts c of that many characters: no forecast expects more.
        """

    @abstractmethod
    def entropy(self, seen: int) -> float:
        """Entropy of the next character given the `seen` before it, nats: no forecast expects a lower
        cross-entropy.
        """


class DataError(Exception):
    """The data cannot be used; the message names what, where and the cure."""
