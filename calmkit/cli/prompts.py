"""Prompts as `calmkit generate` is given them: words of the command, a file, standard input."""

from __future__ import annotations

import json
import re
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from calmkit.interfaces import DataError

STDIN = "-"
PATIENCE = 2.0  # seconds until a person is told what is waited for
KEYS = ("prompt", "text")
"""Of an object in a .jsonl file, the first of them that it has."""
OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=\S")
BOM = b"\xef\xbb\xbf"


def sort_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Prompts and overrides: a word such as `sampler.temperature=1`, a name and right behind it `=`, is an
    override.
    """
    overrides = [word for word in words if OVERRIDE.match(word)]
    return [word for word in words if not OVERRIDE.match(word)], overrides


def gather(words: Iterable[str], options: Iterable[str], file: Path | None) -> tuple[str, ...]:
    """All prompts: the words, in whose place `-` stands for standard input, the options, and the file.

    Raises:
        DataError: A file or standard input can't be read, or has a line that is no prompt.
    """
    found: list[str] = []
    for word in words:
        found += from_stdin() if word == STDIN else [word]
    found += options
    if file is not None:
        found += from_stdin() if str(file) == STDIN else from_file(file)
        if not found:
            raise DataError(f"{file} holds no prompt; write one a line")
    return tuple(found)


def from_file(path: Path) -> Iterator[str]:
    """A prompt of each line; of a .jsonl file those of its objects.

    Raises:
        DataError: It can't be read, is not UTF-8, or a line of a .jsonl is none of its objects.
    """
    try:
        with path.open("rb") as file:
            yield from _prompts(file, str(path), path.suffix.lower() == ".jsonl")
    except OSError as error:
        raise DataError(
            f"--prompts: {path} cannot be read ({error.strerror or error}); "
            "give a file of one prompt a line, or a .jsonl"
        ) from error


def from_stdin() -> Iterator[str]:
    """A prompt of each line of standard input, to its end.

    Raises:
        DataError: It is not UTF-8.
    """
    if sys.stdin is None or sys.stdin.closed:
        return iter(())
    if sys.stdin.isatty() or not _has_come():
        click.echo("reading prompts from standard input, one a line, until it ends", err=True)
    return _prompts(sys.stdin.buffer, "standard input", as_json=False)


def piped() -> bool:
    """Whether something may come from standard input that nobody types."""
    return sys.stdin is not None and not sys.stdin.closed and not sys.stdin.isatty()


def _has_come() -> bool:
    """Whether there is something to read, or soon is."""
    try:
        return bool(select.select([sys.stdin.buffer], [], [], PATIENCE)[0])
    except (OSError, ValueError):  # nothing that can be waited for, such as a file on Windows
        return True


def _prompts(lines: Iterable[bytes], where: str, as_json: bool) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        content = line.removeprefix(BOM) if number == 1 else line
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}:{number} is not UTF-8: byte 0x{content[error.start]:02x} at its place "
                f"{error.start + 1}; convert it, for instance with `iconv -t UTF-8`"
            ) from error
        text = text.removesuffix("\n").removesuffix("\r")
        if not as_json:
            yield text
        elif text.strip():
            yield _of_object(text, f"{where}:{number}")


def _of_object(line: str, where: str) -> str:
    must = f'a line of a .jsonl is an object such as {{"{KEYS[0]}": "..."}}'
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}); {must}") from error
    key = next((one for one in KEYS if isinstance(record, dict) and one in record), None)
    if key is None:
        there = f"only {list(record)}" if isinstance(record, dict) else f"it is a {type(record).__name__}"
        raise DataError(f"{where} has neither '{KEYS[0]}' nor '{KEYS[1]}': {there}; {must}")
    if not isinstance(record[key], str):
        raise DataError(f"{where}: '{key}' is {type(record[key]).__name__}, not text; {must}")
    return record[key]
