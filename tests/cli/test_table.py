"""Columns in a terminal, tabs elsewhere."""

from __future__ import annotations

import io

import pytest

from calmkit.cli.table import show_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_stand_under_each_other_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "60")
    show_table(["name", "summary"], [["flow", "[bold]x"], ["energy", "y"]])
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines == ["name    summary", "flow    [bold]x", "energy  y"]


def test_nothing_is_wrapped_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = io.StringIO()
    monkeypatch.setattr("sys.stdout", paper)
    show_table(["name", "summary"], [["flow", "x" * 200], ["energy", "two\nlines\tand a tab"]])
    assert paper.getvalue() == f"name\tsummary\nflow\t{'x' * 200}\nenergy\ttwo lines and a tab\n"
