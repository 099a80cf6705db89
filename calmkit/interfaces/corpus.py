"""Corpus: where documents come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

Split = Literal["train", "valid"]


class Corpus(ABC):
    """A source of documents, split by document. The constructor is `(*, ...)`, all of it settable in a
    recipe.
    """

    @abstractmethod
    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split, in a fixed order.

        Raises:
            DataError: A file is missing, is not UTF-8, lacks the text key: naming file, place and cure.
        """

    @abstractmethod
    def identity(self) -> str:
        """A text that changes whenever the documents would: the key of the token cache."""


class DataError(Exception):
    """The data cannot be used; the message names what, where and the cure."""
