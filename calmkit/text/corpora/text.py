"""Your own files: .txt (one document each) and .jsonl (one document a line), also as .gz and .zst, and
.parquet (one document a row).

Source: JSON lines, https://jsonlines.org; Zstandard, RFC 8878, https://www.rfc-editor.org/rfc/rfc8878;
Parquet, https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import final

from calmkit.data.bad_records import MAX_BAD, OnBad, Skipped, check_max_bad
from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction, choose_valid, document_hash
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Corpus, DataError, Split
from calmkit.text.read_corpus import ReadCorpus
from calmkit.text.sized_corpus import SizedCorpus
from calmkit.text.text_files import FORMATS, expected_size, find_files, read_documents, text_format


@final
class TextCorpus(SizedCorpus, ReadCorpus):
    """Documents from .txt and .jsonl files, plain, .gz or .zst, and .parquet: paths, folders and globs.

    Args:
        train: One or more paths, folders or globs. A folder stands for every known file in it, at any depth.
        valid: The same for validation. None: `valid_fraction` of the documents of `train` is held out.
        text_key: The key of the text in a .jsonl line, or its column in a .parquet.
        valid_fraction: Share of the bytes; without effect where `valid` is given.
        on_bad: A record without a usable text (no JSON, no such key, no text, not UTF-8) is refused, or
            skipped, counted and told.
        max_bad: More than this share of the records of a split is refused all the same.
    """

    apart = "data.valid=null holds out data.valid_fraction of the training text"

    def __init__(
        self,
        *,
        train: str | list[str],
        valid: str | list[str] | None = None,
        text_key: str = "text",
        valid_fraction: float = 0.05,
        on_bad: OnBad = "refuse",
        max_bad: float = MAX_BAD,
    ) -> None:
        check_fraction("text", valid_fraction)
        check_max_bad("text", max_bad)
        self.train, self.valid = _as_list(train), None if valid is None else _as_list(valid)
        self.text_key = text_key
        self.valid_fraction = valid_fraction
        self.on_bad, self.max_bad = on_bad, max_bad

    def read(self, split: Split, skipped: Skipped) -> Iterator[str]:
        """File by file; see `find_files` for their order.

        Raises:
            DataError: See `find_files` and `read_documents`; or a record is bad, or more of them than
                `max_bad` allows; or one document is to be split in two.
        """
        if self.valid is not None:
            yield from self._read(split, skipped)
            return
        chosen = self._held_out
        for text in self._read(split, skipped):
            if (document_hash(text) in chosen) == (split == "valid"):
                yield text

    def source(self, split: Split) -> str:
        """The setting and its paths."""
        paths = self.train if self._setting(split) == "train" else self.valid or []
        told = paths[0] if len(paths) == 1 else f"[{', '.join(paths)}]"
        return f"data.{self._setting(split)}={told}"

    def unit(self, split: Split) -> str:
        """Lines, rows or files; records where there are several kinds of files."""
        kinds = {FORMATS[text_format(path) or ""] for path in self._files(split)}
        return kinds.pop() if len(kinds) == 1 else "records"

    def place(self, split: Split, file: int, number: int) -> str:
        """The file, and the line or row in it from 1."""
        path = self._files(split)[file]
        return f"{path}:{number}" if number else str(path)

    def identity(self) -> str:
        """By the content of all files, not by their names: a copy elsewhere has the same."""
        return self._identity

    def expected_bytes(self, split: Split) -> int:
        """By the sizes of the files; compressed ones count four times."""
        size = sum(map(expected_size, self._files(split)))
        if self.valid is not None:
            return size
        return round(size * (self.valid_fraction if split == "valid" else 1 - self.valid_fraction))

    def _setting(self, split: Split) -> Split:
        """Where the text of a split stands: that held out of the training files stands in them."""
        return "train" if self.valid is None else split

    def _files(self, split: Split) -> list[Path]:
        if self._setting(split) == "valid":
            return find_files(self.valid or [], "data.valid")
        return find_files(self.train, "data.train")

    def _read(self, split: Split, skipped: Skipped) -> Iterator[str]:
        """All the documents of the files of a split."""
        for index, path in enumerate(self._files(split)):
            yield from skipped.keep(read_documents(path, self.text_key), index, self.on_bad)
        skipped.check(self.max_bad, self.unit(split), functools.partial(self.place, split))

    @functools.cached_property
    def _held_out(self) -> frozenset[int]:
        texts = self._read("train", Skipped())
        sizes = [(document_hash(text), len(text.encode())) for text in texts]
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
        if self.on_bad == "skip":
            contents.append(f"skip {self.max_bad}")
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
