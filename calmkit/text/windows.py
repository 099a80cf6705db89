"""A text as rows of whole chunks: the ways to write it behind another, and windows over a row that is longer
than those of training, so that every unit is scored once, with a past.

Source: `get_rolling_token_windows` of lm-eval, for units in place of tokens.
https://github.com/EleutherAI/lm-evaluation-harness
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Units `start` to `end` of a row are read, those from `first` on are scored."""

    start: int
    first: int
    end: int


def windows(units: int, first: int, longest: int) -> Iterator[Window]:
    """Windows that score the units from `first` to the end of a row, each once, in order.

    Where all that is scored fits behind one unit of past, the window ends with the row and is as long as it
    may be, so that the past is. Otherwise each window scores as much as it can hold behind one unit of past,
    and only the last one has more.

    Args:
        units: Of the row.
        first: The first that is scored, 1 at least: unit 0 is only read.
        longest: Units of a row of training; fewer than two count as two.
    """
    assert first >= 1
    longest = max(2, longest)
    while first < units:
        end = units if units - first < longest else first + longest - 1
        yield Window(max(0, end - longest), first, end)
        first = end


@dataclass(frozen=True)
class Layout:
    """One way to write a text: ids, and the first of them that is scored, where a chunk begins."""

    ids: list[int]
    first: int


@dataclass(frozen=True)
class Piece:
    """A window of a layout: whole chunks, of which those from `first` on are scored, the last one in part."""

    layout: int
    ids: list[int]
    first: int
    last_places: int


def layouts(before: Sequence[int], after: Sequence[int], chunk_size: int, eos_id: int) -> list[Layout]:
    """The ways in which `after` can be written behind `before`: one, or K where nothing stands before."""
    if before:
        front = [eos_id] * (-len(before) % chunk_size) + list(before)
        return [Layout([*front, *after], len(front))]
    front = [eos_id] * chunk_size
    return [Layout([*front, *[eos_id] * fill, *after], chunk_size) for fill in range(chunk_size)]


def pieces(number: int, layout: Layout, chunk_size: int, eos_id: int, longest: int) -> Iterator[Piece]:
    """The windows of a layout, filled up on the right to whole chunks."""
    ids = layout.ids + [eos_id] * (-len(layout.ids) % chunk_size)
    units, over = len(ids) // chunk_size, len(ids) - len(layout.ids)
    for window in windows(units, layout.first // chunk_size, longest):
        cut = over if window.end == units else 0
        part = ids[window.start * chunk_size : window.end * chunk_size]
        yield Piece(number, part, window.first - window.start, chunk_size - cut)
