"""`calmkit docs`: the pages of an installed calmkit, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calmkit.cli.docs import pages
from calmkit.cli.main import cli

DOCS = Path(__file__).parents[2] / "docs"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["docs", *words])


def test_without_a_name_the_contents_are_shown_and_how_to_go_on() -> None:
    done = run()
    assert done.exit_code == 0
    assert done.stdout.startswith((DOCS / "index.md").read_text(encoding="utf-8"))
    assert "calmkit docs PAGE shows one of: extending/data, " in done.stdout


@pytest.mark.parametrize("name", ["recipes", "extending/head", "docs/official.md"])
def test_a_page_goes_into_a_pipe_as_it_is_written(name: str) -> None:
    plain = name.removeprefix("docs/").removesuffix(".md")
    assert run(name).stdout == (DOCS / f"{plain}.md").read_text(encoding="utf-8")
    assert run(name, "--path").stdout == f"{pages()[plain]}\n"  # of a checkout, or of an installed wheel


@pytest.mark.parametrize(("name", "meant"), [("recipe", "recipes"), ("head", "extending/head")])
def test_an_unknown_page_is_refused_with_the_near_one(name: str, meant: str) -> None:
    done = run(name)
    assert done.exit_code == 2
    assert f"No page '{name}'. Did you mean '{meant}'?" in done.stderr


def test_a_terminal_gets_the_page_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.cli.docs._is_terminal", lambda: True)
    shown = run("tour").stdout
    assert "A tour" in shown
    assert "# A tour" not in shown


def test_every_page_is_found() -> None:
    there = {file.relative_to(DOCS).with_suffix("").as_posix() for file in DOCS.rglob("*.md")}
    assert set(pages()) == there


@pytest.mark.parametrize("name", ["../README", "/etc/passwd", "decisions/../../README"])
def test_nothing_else_is_read(name: str) -> None:
    assert run(name).exit_code == 2
