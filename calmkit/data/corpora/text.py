"""Your own files: .txt (one document each) and .jsonl (one document a line), also as .gz and .zst.

Source: JSON lines, https://jsonlines.org; Zstandard, RFC 8878, https://www.rfc-editor.org/rfc/rfc8878
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import final

from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction, choose_valid, document_hash
from calmkit.data.sized_corpus import SizedCorpus
from calmkit.data.text_files import expected_size, find_files, read_documents, text_format
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Corpus, DataError, Split


@final
class TextCorpus(SizedCorpus):
    """Documents from .txt and .jsonl files, plain, .gz or .zst: paths, folders and globs.

    Args:
        train: One or more paths, folders or globs.
        valid: The same for validation. None: `valid_fraction` of the documents of `train` is held out.
        text_key: The key of the text in a .jsonl line.
        valid_fraction: Share of the bytes; without effect where `valid` is given.
    """

    def __init__(
        self,
        *,
        train: str | list[str],
        valid: str | list[str] | None = None,
        text_key: str = "text",
        valid_fraction: float = 0.05,
    ) -> None:
        check_fraction("text", valid_fraction)
        self.train, self.valid = _as_list(train), None if valid is None else _as_list(valid)
        self.text_key = text_key
        self.valid_fraction = valid_fraction

    def documents(self, split: Split) -> Iterator[str]:
        """File by file; see `find_files` for their order.

        Raises:
            DataError: See `find_files` and `read_documents`; or one document is to be split in two.
        """
        if self.valid is not None:
            yield from self._read(self._files(split))
            return
        chosen = self._held_out
        for text in self._read(self._files("train")):
            if (document_hash(text) in chosen) == (split == "valid"):
                yield text

    def identity(self) -> str:
        """By the content of the files, not by their names: a copy elsewhere has the same."""
        return self._identity

    def expected_bytes(self, split: Split) -> int:
        """By the sizes of the files; compressed ones count four times."""
        size = sum(map(expected_size, self._files(split)))
        if self.valid is not None:
            return size
        return round(size * (self.valid_fraction if split == "valid" else 1 - self.valid_fraction))

    def _files(self, split: Split) -> list[Path]:
        if split == "valid" and self.valid is not None:
            return find_files(self.valid, "data.valid")
        return find_files(self.train, "data.train")

    def _read(self, files: list[Path]) -> Iterator[str]:
        for path in files:
            yield from read_documents(path, self.text_key)

    @functools.cached_property
    def _held_out(self) -> frozenset[int]:
        sizes = [(document_hash(text), len(text.encode())) for text in self._read(self._files("train"))]
        chosen = choose_valid(sizes, self.valid_fraction)
        if sizes and not chosen:
            raise DataError(
                "data.train holds one document only, and the split into train and valid is by document; "
                "set data.valid, or give more documents (a .jsonl has one a line)"
            )
        return chosen

    @functools.cached_property
    def _identity(self) -> str:
        contents = [digest(*map(_content, self._files("train")))]
        if self.valid is None:
            contents.append(repr(self.valid_fraction))
        else:
            contents.append(digest(*map(_content, self._files("valid"))))
        return f"text-{digest(*contents, self.text_key)}"


def _as_list(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths)


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return f"{text_format(path)} {path.suffix} {hashlib.file_digest(file, 'blake2b').hexdigest()}"
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions"
        ) from error


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """Files of the user's own."""
    return {"text": TextCorpus}
