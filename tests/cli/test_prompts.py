"""Prompts from words, files and standard input, and what is said of a line that is none."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from calmkit.cli.prompts import from_file, from_stdin, gather, piped, sort_words
from calmkit.interfaces import DataError


class Piped(io.TextIOWrapper):
    """Standard input that nobody types."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")


def test_a_name_with_an_equals_sign_behind_it_is_an_override_and_all_else_a_prompt() -> None:
    words = [
        "The cat",
        "sampler=vote",
        "x = 3",
        "sampler.temperature=0.5",
        "head.depth=1",
        "=",
        "1+1=2",
        "-",
        "",
    ]
    overrides = ["sampler=vote", "sampler.temperature=0.5", "head.depth=1"]
    assert sort_words(words) == ([word for word in words if word not in overrides], overrides)


def test_a_line_is_a_prompt_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone \r\n\n  two\xc2\x85\x0c\xe2\x80\xa8still\n\xe2\x82\xac")
    assert [*from_file(path)] == ["one ", "", "  two\x85\x0c\u2028still", "\u20ac"]


def test_an_object_a_line_holds_its_prompt_or_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.JSONL"
    path.write_text('{"prompt": "a\\nb", "text": "not this"}\n\n{"id": 3, "text": ""}\n')
    assert [*from_file(path)] == ["a\nb", ""]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"good\nb\xe4d\n", r"a\.txt:2 is not UTF-8: byte 0xe4 at its place 2; convert it"),
        ("a.jsonl", b'{"prompt": "a"}\n\nprompt\n', r"a\.jsonl:3 is not JSON \(Expecting value.*a line of a"),
        ("a.jsonl", b'{"promt": "a"}\n', r"a\.jsonl:1 has neither 'prompt' nor 'text': only \['promt'\]"),
        ("a.jsonl", b'"prompt"\n', r"a\.jsonl:1 has neither 'prompt' nor 'text': it is a str"),
        ("a.jsonl", b'{"prompt": 3}\n', r"a\.jsonl:1: 'prompt' is int, not text"),
        ("a.jsonl", b'{"prompt": "\xff"}\n', r"a\.jsonl:1 is not UTF-8: byte 0xff"),
        ("a.jsonl", b"[" * 200_000 + b"\n", r"a\.jsonl:1 is not JSON"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        list(from_file(tmp_path / name))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--prompts: .*nowhere\.txt cannot be read \(No such file"):
        list(from_file(tmp_path / "nowhere.txt"))
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\); give a file of one prompt"):
        list(from_file(tmp_path))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"empty\.txt holds no prompt; write one a line"):
        gather([], [], tmp_path / "empty.txt")


def test_prompts_come_in_the_order_of_words_options_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b"two\nthree\n"))
    (tmp_path / "a.txt").write_text("six\n")
    assert gather(["one", "-", "four"], ["five", "-"], tmp_path / "a.txt") == (
        *("one", "two", "three", "four", "five", "-", "six"),
    )
    monkeypatch.setattr(sys, "stdin", Piped(b"one"))
    assert gather([], [], Path("-")) == ("one",)


def test_standard_input_that_is_no_text_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b"a\n\xff\n"))
    assert piped()
    with pytest.raises(DataError, match=r"^standard input:2 is not UTF-8"):
        list(from_stdin())
    monkeypatch.setattr(sys, "stdin", None)
    assert not piped()
    assert [*from_stdin()] == []


def test_who_waits_for_standard_input_is_told_what_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b"a\n"))
    monkeypatch.setattr("calmkit.cli.prompts._has_come", lambda: False)
    assert [*from_stdin()] == ["a"]
    assert capsys.readouterr().err == "reading prompts from standard input, one a line, until it ends\n"
