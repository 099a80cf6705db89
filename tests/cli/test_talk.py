"""The talk of `calmkit generate --interactive`: prompts, commands, and what ends what."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest

from calmkit.cli.repl import HELP, Talk
from calmkit.cli.shown import Shown
from calmkit.interfaces import DataError, GenerationAsked


def talk(
    monkeypatch: pytest.MonkeyPatch,
    *lines: str | type[BaseException],
    answer: Callable[..., object] | None = None,
) -> tuple[list[GenerationAsked], list[str]]:
    """What was asked and which overrides were taken when these lines were typed, and then Ctrl-D."""
    typed, asked, changed = iter([*lines, EOFError]), list[GenerationAsked](), list[str]()

    def ask(prompt: str) -> str:
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    def change(word: str) -> None:
        if "wrong" in word:
            raise click.UsageError(f"no {word}")
        changed.append(word)

    def say(one: GenerationAsked) -> None:
        asked.append(one)
        click.echo(f"<{one.prompt}>")

    monkeypatch.setattr("builtins.input", ask)
    Talk(GenerationAsked(length=9), answer or say, change).run()
    return asked, changed


def test_each_line_is_a_prompt_under_the_settings_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, changed = talk(
        monkeypatch,
        *("the cat", "/seed 3", "/length 4", "/n 2", "/chunks", "", "/again", "/again", "/chunks", "//bin"),
        *("/temperature 0.5", "/set sampler=vote"),
    )
    assert asked == [
        GenerationAsked(("the cat",), length=9),
        GenerationAsked(("",), length=4, seed=3, num=2, show_units=True),
        GenerationAsked(("",), length=4, seed=4, num=2, show_units=True),
        GenerationAsked(("",), length=4, seed=5, num=2, show_units=True),
        GenerationAsked(("/bin",), length=4, seed=5, num=2),
    ]
    assert changed == ["sampler.temperature=0.5", "sampler=vote"]


def test_what_is_wrong_is_told_and_the_talk_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(asked: GenerationAsked) -> None:
        raise DataError("no such word") if asked.prompt == "x" else ValueError("no such option")

    lines = ("/seed -1", "/seed 99999999999999999999", "/length 0", "/n", "/what", "/set wrong=1", "/help")
    asked, changed = talk(monkeypatch, *lines, "x", "y", answer=refuses)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "a line is a prompt; /help says more, Ctrl-D ends",
        "/seed takes a whole number of 0 or more, such as 2; got '-1'",
        "/seed takes a whole number of 0 or more, such as 2; got '99999999999999999999'",
        "/length takes a whole number of 1 or more, such as 3; got '0'",
        "/n takes a whole number of 1 or more, such as 3; got ''",
        "there is no command '/what'; /help lists them, // begins a prompt with /",
        "no wrong=1",
        "no such word",
        "no such option",
    ]
    assert said.out == f"{HELP}\n\n"
    assert (asked, changed) == ([], [])


def test_interrupting_ends_the_answer_or_the_line_and_not_the_talk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pieces(note: Callable[[str], object]):
        note("at once")
        yield "half of "
        note("nor this")
        raise KeyboardInterrupt

    talk(monkeypatch, "a", KeyboardInterrupt, "b", answer=lambda asked: Shown().show(pieces))
    said = capsys.readouterr()
    assert said.out == "half of \n" + "\n" + "half of \n" + "\n"
    assert said.err.count("at once") == 2
    assert "nor this" not in said.err


def test_quit_ends_it_and_nothing_more_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = talk(monkeypatch, "a", "/quit", "b")
    assert [one.prompt for one in asked] == ["a"]


def test_a_note_stands_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def pieces(note: Callable[[str], object]):
        note("before")
        assert capsys.readouterr().err == "before\n"
        yield "a"
        note("beside")
        assert capsys.readouterr() == ("a", "")
        yield "b"

    Shown().show(pieces)
    assert capsys.readouterr() == ("b\n", "beside\n")
