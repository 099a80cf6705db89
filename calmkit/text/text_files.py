"""Documents from files: Parquet, and plain text and JSON lines, also compressed by gzip or Zstandard."""

from __future__ import annotations

import glob
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from calmkit.data.bad_records import BadRecord
from calmkit.interfaces import DataError
from calmkit.text.parquet_files import PARQUET, parquet_texts, require_pyarrow

FORMATS = {".txt": "files", ".jsonl": "lines", PARQUET: "rows"}
"""Suffix -> what makes a document, in the plural."""
COMPRESSIONS = (".gz", ".zst")  # of any but Parquet, which compresses itself
KNOWN = ", ".join([f + c for f in FORMATS if f != PARQUET for c in ("", *COMPRESSIONS)] + [PARQUET])
COMPRESSED_SHARE = 4  # English text shrinks to about a quarter: for estimates only
BLOCK = 1 << 20
BOM = b"\xef\xbb\xbf"


def text_format(path: Path) -> str | None:
    """A key of `FORMATS`, whatever the compression; None for any other file."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    if compressed:
        suffixes.pop()
    known = bool(suffixes) and suffixes[-1] in FORMATS and not (compressed and suffixes[-1] == PARQUET)
    return suffixes[-1] if known else None


def find_files(patterns: Iterable[str], setting: str) -> list[Path]:
    """The files that paths, folders and globs name: sorted within each pattern, every file once, also where
    two names lead to it.

    Args:
        patterns: Relative ones start at the current folder. A folder stands for every known file in it, at
            any depth; hidden ones are left out.
        setting: The key in the recipe, for the message.

    Raises:
        DataError: A pattern finds nothing, or names a file of unknown suffix, or a .parquet that nothing
            here can read.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        for path in _expand(pattern, setting):
            if text_format(path) is None:
                raise DataError(f"{setting}: {path} has an unknown suffix; known are {KNOWN}")
            found.setdefault(path.resolve(), path)
    if not found:
        raise DataError(f"{setting} names no file; give a path, a folder or a glob of {KNOWN}")
    for path in found.values():
        if text_format(path) == PARQUET:
            require_pyarrow(f"{setting}: {path}")
    return list(found.values())


def _expand(pattern: str, setting: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():  # before globbing: a name may hold brackets
        return [path]
    if path.is_dir():
        known = (p for p in path.rglob("*") if p.is_file() and text_format(p))
        files = sorted(p for p in known if not any(part[0] == "." for part in p.relative_to(path).parts))
        if not files:
            raise DataError(f"{setting}: the folder {path} holds no text; known files are {KNOWN}")
        return files
    files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not files:
        kind = "matches no file" if glob.has_magic(pattern) else "does not exist"
        raise DataError(f"{setting}: {pattern} {kind} (looked in {Path.cwd()}); correct the path")
    return files


def expected_size(path: Path) -> int:
    """About how many bytes the file has once it is unpacked."""
    packed = path.suffix.lower() in (*COMPRESSIONS, PARQUET)
    return path.stat().st_size * (COMPRESSED_SHARE if packed else 1)


def read_documents(path: Path, text_key: str) -> Iterator[str | BadRecord]:
    """The documents of one file, blank ones too: the whole of a .txt, one of each line of a .jsonl, one of
    each row of a .parquet. What a record without a usable text is refused for stands in its place.

    Raises:
        DataError: Naming the file: it cannot be read or unpacked.
    """
    kind = text_format(path)
    if kind == ".txt":
        yield _decode(b"".join(_unpacked(path)).removeprefix(BOM), path)
    elif kind == PARQUET:
        yield from parquet_texts(path, text_key)
    else:
        yield from _json_texts(path, text_key)


def _json_texts(path: Path, text_key: str) -> Iterator[str | BadRecord]:
    offset = 0
    for number, line in enumerate(_lines(path), 1):
        text = _decode(line, path, offset, number)
        offset += len(line)
        if isinstance(text, BadRecord):
            yield text
        elif text.strip():
            yield _json_text(text.removeprefix("\ufeff"), text_key, f"{path}:{number}", number)


def _json_text(line: str, text_key: str, where: str, number: int) -> str | BadRecord:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        must = f'every line must be an object such as {{"{text_key}": "..."}}'
        return BadRecord(f"{where} is not JSON ({error}); {must}", number, "not JSON")
    if not isinstance(record, dict) or text_key not in record:
        there = f"only {list(record)}" if isinstance(record, dict) else f"it is a {type(record).__name__}"
        message = f"{where} has no key '{text_key}': {there}; set data.text_key to the key of the text"
        return BadRecord(message, number, f"no key '{text_key}'")
    text = record[text_key]
    if not isinstance(text, str):
        what = "null" if text is None else type(text).__name__
        message = f"{where}: '{text_key}' is {what}, not text; set data.text_key to a text"
        return BadRecord(message, number, "null" if text is None else f"{what} instead of text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return BadRecord(
            f"{where}: character {error.start} of '{text_key}' is half a surrogate pair, "
            "which UTF-8 cannot hold; write the character whole or remove it",
            number,
            "half a surrogate pair",
        )
    return text


def _decode(content: bytes, path: Path, offset: int = 0, line: int = 0) -> str | BadRecord:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"{path}:{line}" if line else str(path)
        return BadRecord(
            f"{place} is not UTF-8: byte 0x{content[error.start]:02x} at offset {offset + error.start}. "
            "Convert the file, for instance with `iconv -t UTF-8`",
            line,
            "not UTF-8",
        )


def _lines(path: Path) -> Iterator[bytes]:
    rest = b""
    for block in _unpacked(path):
        *lines, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _unpacked(path: Path) -> Iterator[bytes]:
    """The content in blocks, unpacked."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".zst":
            yield from _zstandard_blocks(path)
        else:
            with gzip.open(path) if suffix == ".gz" else path.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or no gzip file ({error}); make it again") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check that it is there and readable"
        ) from error


def _zstandard_blocks(path: Path) -> Iterator[bytes]:
    import zstandard

    unpacker = None  # one for each frame; a file may hold several
    with path.open("rb") as file:
        while packed := file.read(BLOCK):
            while packed:
                unpacker = unpacker or zstandard.ZstdDecompressor().decompressobj()
                try:
                    block = unpacker.decompress(packed)
                except zstandard.ZstdError as error:
                    raise DataError(
                        f"{path} is damaged or no Zstandard file ({error}); make it again"
                    ) from error
                if block:
                    yield block
                packed = unpacker.unused_data if unpacker.eof else b""
                unpacker = None if unpacker.eof else unpacker
    if unpacker is not None:
        raise DataError(f"{path} is damaged: its last Zstandard frame is cut short; make it again")
