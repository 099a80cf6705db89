"""The pages are true: their code runs, their output is what is printed, their links lead somewhere.

In every page the blocks marked python, and the `calmkit` commands in blocks marked console, run top to
bottom, in one namespace and one empty folder per page. What python prints stands in a block marked text right
after it; what a command answers stands under it. A comment before a block changes that:

    <!-- not run: reason -->    it is left out
    <!-- from: path -->         it is a quotation, held by test_extending_docs
    <!-- file: name -->         it is written to that file
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from calmkit.cli.main import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[a-z ]+): (?P<note>.*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\((?!https?:|#)(?P<path>[^)#\s]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the text block right after it."""

    language: str
    text: str
    line: int  # of its first line of text
    output: str = ""
    mark: str | None = None
    note: str = ""


def blocks(page: str) -> list[Block]:
    """All blocks of a page but those that are the output of another."""
    found = list(FENCE.finditer(page))
    made, taken = [], set[int]()
    for number, match in enumerate(found):
        if number in taken:
            continue
        follower = found[number + 1] if number + 1 < len(found) else None
        output = ""
        if match["language"] == "python" and follower and _is_output(page[match.end() : follower.end()]):
            output = follower["text"]
            taken.add(number + 1)
        line = page.count("\n", 0, match.start("text")) + 1
        made.append(Block(match["language"], match["text"], line, output, match["mark"], match["note"] or ""))
    return made


def _is_output(between: str) -> bool:
    """Whether a block follows with nothing but space before it, and is marked text."""
    return between.lstrip().startswith("```text\n")


def printed(block: Block, namespace: dict[str, Any], page: str) -> str:
    """What a python block prints; errors point at the line of the page."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)
    return out.getvalue()


def answered(block: Block) -> str:
    """A console block as its commands answer."""
    lines = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            program, *arguments = shlex.split(line.removeprefix("$ "))
            assert program == "calmkit", f"only calmkit is run, not {program}"
            lines.append(line + "\n" + CliRunner().invoke(cli, arguments, prog_name="calmkit").output)
    return "".join(lines)


def check(text: str, page: str) -> None:
    """Run a page in the current folder."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(text):
        if block.mark == "file":
            Path(block.note).write_text(block.text, encoding="utf-8")
        elif block.mark in ("not run", "from"):
            continue
        elif block.language == "python":
            same(f"{page}:{block.line} prints", printed(block, namespace, page), block.output)
        elif block.language == "console":
            same(f"{page}:{block.line} answers", answered(block), block.text)


def same(what: str, got: str, shown: str) -> None:
    """Refuse a page that shows something else."""
    if got != shown:
        raise AssertionError(f"{what}\n{got}where the page shows\n{shown}")


@pytest.fixture(autouse=True)
def readers_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, nothing cached, no guests, and numbers as torch makes them by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calmkit.registry.ENTRY_POINT_GROUP", "calmkit.nobody")
    monkeypatch.setenv("CALMKIT_CACHE", str(tmp_path / "cache"))
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_is_true(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    check(text, page.relative_to(ROOT).as_posix())
    for link in LINK.finditer(FENCE.sub("", text)):
        target = page.parent / link["path"]
        if ROOT / "plugins" in target.resolve().parents and not (ROOT / "plugins").is_dir():
            continue  # the core does without them, its pages too
        assert target.exists(), f"{page.name} links to {link['path']}, which is not there"


def test_every_page_is_in_the_contents() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = [page for entry in settings["nav"] for page in entry.values()]
    there = [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))]
    assert sorted(listed) == [page for page in there if not page.startswith("decisions/")]
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    links = {link["path"] for link in LINK.finditer(index)}
    assert set(listed) - {"index.md"} <= links
    assert "decisions/" in links


GOOD = "```python\nx = 1\n```\n```python\nprint(x)\n```\n\n```text\n1\n```\n"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (GOOD.replace("text\n1", "text\n2"), "page.md:5 prints\n1\n"),
        (GOOD.replace("\n\n", "\nwords\n"), "page.md:5 prints\n1\n"),  # an output nobody shows
        ("```console\n$ calmkit ls tokenizer\n```\n", "page.md:2 answers\n[$] calmkit ls tokenizer\nUsage: "),
    ],
)
def test_a_false_page_is_seen(page: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check(page, "page.md")


def test_marks_are_heeded() -> None:
    check(GOOD, "page.md")
    check("<!-- not run: it takes a day -->\n```python\n1 / 0\n```\n", "page.md")
    check("<!-- file: a.txt -->\n```\nword\n```\n", "page.md")
    assert Path("a.txt").read_text(encoding="utf-8") == "word\n"
    with pytest.raises(ZeroDivisionError):
        check("```python\n1 / 0\n```\n", "page.md")
