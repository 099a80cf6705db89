"""One grid in each format, by hand, with texts that each format must not act upon."""

from __future__ import annotations

import csv
import io

import pytest

from calmkit.report.render import (
    Grid,
    as_csv,
    as_markdown,
    as_text,
    markdown_escaped,
    plain,
)

GRID = Grid("Two models", ["model", "score"], [["a", "1.00"], ["longer", "10.00"]], 1, ["A note."])


def test_text_by_hand() -> None:
    assert as_text(GRID) == (
        "Two models\n"
        "model   score\n"
        "a        1.00\n"
        "longer  10.00\n"
        "A note.\n"
    )  # fmt: skip


def test_markdown_by_hand() -> None:
    assert as_markdown(GRID) == (
        "**Two models**\n\n| model | score |\n| --- | ---: |\n| a | 1.00 |\n| longer | 10.00 |\n\n- A note.\n"
    )


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("<b>a</b> & c", "&lt;b>a&lt;/b> &amp; c"),
        ("a|b *c* _d_ `e` [f]", r"a\|b \*c\* \_d\_ \`e\` \[f\]"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_acts_upon_nothing(text: str, markdown: str) -> None:
    assert markdown_escaped(text) == markdown


def test_a_pipe_in_a_name_makes_no_column() -> None:
    lines = as_markdown(Grid("t", ["m", "x"], [["a|b", "1"]])).split("\n")
    assert lines[4] == r"| a\|b | 1 |"


def test_control_characters_reach_no_terminal() -> None:
    assert plain("a\x1b[31mb\x00\u202ec\td") == "a\ufffd[31mb\ufffd\ufffdc d"


def test_csv_gives_back_what_it_was_given() -> None:
    """Numbers to the last digit, and names with every special sign that is no control character."""
    names = ['a,"b";é', "c"]
    text = as_csv(["name", "value"], [[names[0], 0.1 + 0.2], [names[1], None]])
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "value"],
        [names[0], "0.30000000000000004"],
        [names[1], ""],
    ]


def test_long_notes_are_wrapped_for_a_terminal() -> None:
    text = as_text(Grid("t", ["m"], [["a"]], 1, ["word " * 60]))
    assert max(map(len, text.splitlines())) <= 118
    assert text.count("word") == 60
