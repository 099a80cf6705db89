"""render: one grid of texts as terminal text, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full width
LINE = 118  # letters of a line of prose in a terminal


@dataclass(frozen=True)
class Grid:
    """A table as texts.

    Attributes:
        title: One line.
        left: How many columns are names, which stand to the left; numbers stand to the right.
        notes: Sentences under it.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    notes: Sequence[str] = ()


def plain(text: str) -> str:
    """One line without control characters, which terminals, XML and TeX would act upon."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def wrapped(text: str, mark: str = "") -> str:
    """A sentence in lines that a terminal holds."""
    return textwrap.fill(f"{mark}{plain(text)}", LINE, subsequent_indent=" " * len(mark))


def as_text(grid: Grid) -> str:
    """Aligned columns."""
    rows = [[plain(text) for text in row] for row in [grid.heads, *grid.rows]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [plain(grid.title)]
    for row in rows:
        padded = (
            text.ljust(width) if i < grid.left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join([*lines, *map(wrapped, grid.notes)]) + "\n"


def as_markdown(grid: Grid) -> str:
    """A GitHub table."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    marks = ["---" if i < grid.left else "---:" for i in range(len(grid.heads))]
    rows = [line(map(markdown_escaped, grid.heads)), line(marks)]
    rows += [line(map(markdown_escaped, row)) for row in grid.rows]
    notes = [f"- {markdown_escaped(note)}" for note in grid.notes]
    parts = [f"**{markdown_escaped(grid.title)}**", "\n".join(rows), *(["\n".join(notes)] if notes else [])]
    return "\n\n".join(parts) + "\n"


def as_csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Numbers as they are, unrounded; what is unknown is empty; a text that a spreadsheet would compute with
    has an apostrophe before it, and control characters are no part of one.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([list(map(_cell, heads)), *(list(map(_cell, row)) for row in rows)])
    return buffer.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return "" if value is None else value
    text = plain(value)
    number = re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?", text)
    return f"'{text}" if text.startswith(FORMULA) and text != "-" and not number else text


def markdown_escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)
