from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from calmkit.data.digest import digest
from calmkit.interfaces import Split, TextCorpus
from calmkit.text.token_file import TokenFile
from calmkit.text.tokenizers.bytes import BytesTokenizer


class ListCorpus(TextCorpus):
    """Documents from two lists; counts how often it was read."""

    def __init__(self, train: list[str], valid: list[str]) -> None:
        self.splits = {"train": train, "valid": valid}
        self.reads = 0

    def documents(self, split: Split) -> Iterator[str]:
        self.reads += 1
        yield from self.splits[split]

    def identity(self) -> str:
        return digest(*self.splits["train"], "|", *self.splits["valid"])


@pytest.fixture
def list_corpus() -> type[ListCorpus]:
    return ListCorpus


@pytest.fixture
def byte_file(tmp_path: Path):
    """Token files of texts in bytes, one id for each letter."""

    def build(*texts: str) -> TokenFile:
        return TokenFile.build(ListCorpus(list(texts), []), "train", BytesTokenizer(), tmp_path)

    return build
