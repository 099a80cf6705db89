"""A split, tokenised once: one memory-mapped file of ids, with the bounds of its documents.

Layout, little-endian: 4096 bytes of header (JSON, filled up with spaces) · the ids, uint16 or uint32 ·
zeros up to a multiple of 8 · int64 offsets of the documents, one more than there are documents. Every
document ends with end-of-text.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO, final

import numpy as np

from calmkit.data.atomic_write import replacing
from calmkit.data.bad_records import Skipped
from calmkit.data.digest import digest
from calmkit.interfaces import DataError, Split, TextCorpus, Tokenizer
from calmkit.text.read_corpus import ReadCorpus
from calmkit.text.sized_corpus import SizedCorpus

MAGIC = "calmkit tokens 1"
HEADER = 4096
BLOCK_CHARACTERS = 1 << 20  # of text encoded at a time: enough to keep all cores busy, little to hold
BLOCK_DOCUMENTS = 1024
Progress = Callable[[int, int], None]  # documents and bytes of text so far


@dataclass(frozen=True)
class Header:
    """What a token file says of itself."""

    magic: str
    split: str
    corpus: str  # digest of TextCorpus.identity()
    tokenizer: str  # Tokenizer.fingerprint()
    eos_id: int
    vocab_size: int
    dtype: str
    num_documents: int
    num_tokens: int  # with one end-of-text for each document
    num_characters: int
    num_bytes: int  # of UTF-8
    checksum: str  # of all that follows the header
    seal: str = ""  # of the header itself
    skipped: str = ""  # Skipped.to_text() of the reading; a file says nothing of it where nothing was skipped

    def sealed(self) -> Header:
        """With the seal that belongs to the other fields."""
        bare = replace(self, seal="")
        return replace(bare, seal=digest(bare.to_text()))

    def to_text(self) -> str:
        """As it stands in the file."""
        return json.dumps({n: value for n, value in asdict(self).items() if value or n != "skipped"})


@final
class TokenFile:
    """The ids of a split: `tokens` [num_tokens], mapped, and `offsets` [num_documents + 1].

    Document i is `tokens[offsets[i] : offsets[i + 1]]`, its last id end-of-text.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        dtype = np.dtype(header.dtype)
        self.tokens = np.memmap(path, dtype=dtype, mode="r", offset=HEADER, shape=(header.num_tokens,))
        start = _offsets_start(header)
        self.offsets = np.fromfile(path, dtype="<i8", offset=start, count=header.num_documents + 1)

    @classmethod
    def build(
        cls,
        corpus: TextCorpus,
        split: Split,
        tokenizer: Tokenizer,
        cache: Path,
        progress: Progress | None = None,
    ) -> TokenFile:
        """The file of this text and tokenizer under `cache/tokens`, written if it isn't there.

        Args:
            corpus: Only read if the file isn't there.
            split: Of the corpus.
            tokenizer: Ready.
            cache: Processes may share it, and build the same file at once.
            progress: Called before the first block and after each, with documents and bytes of text so far.

        Raises:
            DataError: The split is empty, the disk has too little room, or the file there is damaged.
        """
        path = cls.place(corpus, split, tokenizer, cache)
        if not path.exists():
            with replacing(path) as temporary:
                _write(temporary, corpus, split, tokenizer, progress)
        return cls.open(path, expect=tokenizer.fingerprint())

    @staticmethod
    def place(corpus: TextCorpus, split: Split, tokenizer: Tokenizer, cache: Path) -> Path:
        """Where `build` keeps the file of this text and tokenizer."""
        key = digest(corpus.identity(), tokenizer.fingerprint(), split)
        return cache / "tokens" / f"{split}-{key}.tokens"

    @classmethod
    def open(cls, path: Path, expect: str | None = None) -> TokenFile:
        """A file that `build` wrote, wholly checked: it is read once from end to end.

        Args:
            path: Of the file.
            expect: The fingerprint of the tokenizer it must be of; None: any.

        Raises:
            DataError: It is missing, cut short, damaged, or of another tokenizer.
        """
        cure = f"delete {path} and start again: it is made anew from the text"
        header = _read_header(path, cure)
        size = _offsets_start(header) + 8 * (header.num_documents + 1)
        found = path.stat().st_size
        if found != size:
            raise DataError(f"the token file {path} has {found} bytes instead of {size}; {cure}")
        if _checksum(path) != header.checksum:
            raise DataError(f"the token file {path} is damaged (its checksum differs); {cure}")
        if expect is not None and header.tokenizer != expect:
            raise DataError(
                f"the token file {path} is of the tokenizer {header.tokenizer}, but {expect} is in use; "
                "use the tokenizer it was made with, or tokenise the text anew"
            )
        return cls(path, header)

    def document(self, index: int) -> list[int]:
        """The ids of a document, with end-of-text."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]].tolist()


def _offsets_start(header: Header) -> int:
    end = HEADER + header.num_tokens * np.dtype(header.dtype).itemsize
    return end + -end % 8


def _read_header(path: Path, cure: str) -> Header:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(HEADER))
    except FileNotFoundError as error:
        raise DataError(f"the token file {path} is missing; build it from the text again") from error
    except OSError as error:
        raise DataError(
            f"the token file {path} cannot be read ({error.strerror}); check its permissions"
        ) from error
    except ValueError as error:
        raise DataError(f"the token file {path} is damaged (its header is unreadable); {cure}") from error
    names = {field.name for field in fields(Header)}
    if not isinstance(content, dict) or content.get("magic") != MAGIC or {*content, "skipped"} != names:
        raise DataError(f"{path} is no token file of this version of calmkit; {cure}")
    header = Header(**content)
    if header != header.sealed():
        raise DataError(f"the token file {path} is damaged (its header was changed); {cure}")
    return header


def _write(
    path: Path, corpus: TextCorpus, split: Split, tokenizer: Tokenizer, progress: Progress | None
) -> None:
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    offsets, characters, size = [0], 0, 0
    checked, skipped = False, Skipped()
    texts = corpus.read(split, skipped) if isinstance(corpus, ReadCorpus) else corpus.documents(split)
    with path.open("xb") as file:
        file.write(b" " * HEADER)
        if progress:
            progress(0, 0)
        for block in _blocks(texts):
            batch = tokenizer.encode(block)
            for ids in batch:
                ids.append(tokenizer.eos_id)
                offsets.append(offsets[-1] + len(ids))
            characters += sum(map(len, block))
            size += sum(len(text.encode()) for text in block)
            if not checked:
                _check_room(path, corpus, split, offsets[-1] * dtype.itemsize, size)
                checked = True
            _append(file, np.concatenate([np.asarray(ids, dtype=dtype) for ids in batch]))
            if progress:
                progress(len(offsets) - 1, size)
        if len(offsets) == 1:
            raise DataError(
                f"the {split} split of {type(corpus).__name__} is empty: no text but white space; "
                "check what `data` names and how it is split, and give it text"
            )
        file.write(bytes(-file.tell() % 8))
        _append(file, np.asarray(offsets, dtype="<i8"))
    header = Header(
        MAGIC, split, digest(corpus.identity()), tokenizer.fingerprint(), tokenizer.eos_id,
        tokenizer.vocab_size, dtype.str, len(offsets) - 1, offsets[-1], characters, size, _checksum(path),
        skipped=skipped.to_text(),
    ).sealed()  # fmt: skip
    with path.open("r+b") as file:
        file.write(header.to_text().encode().ljust(HEADER))


def _blocks(documents: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    characters = 0
    for text in documents:
        block.append(text)
        characters += len(text)
        if characters >= BLOCK_CHARACTERS or len(block) == BLOCK_DOCUMENTS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _append(file: BinaryIO, array: np.ndarray) -> None:
    file.write(array.data)


def _check_room(path: Path, corpus: TextCorpus, split: Split, written: int, text_bytes: int) -> None:
    """Refuse early what would not fit, going by the first block; a corpus of unknown size ends there."""
    expected = corpus.expected_bytes(split) if isinstance(corpus, SizedCorpus) else text_bytes
    needed = round(written * max(1.0, expected / max(text_bytes, 1))) + HEADER
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"{path.parent} has {free} bytes free, and the {split} split needs about {needed}; "
            "free some space, or set CALMKIT_CACHE to a folder on another disk"
        )


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(HEADER)
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
