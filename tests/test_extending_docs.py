"""Pages under docs/extending quote real files: each quoted block stands in its file, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "plugins" / "calmkit-laplace-head"
QUOTE = re.compile(r"<!-- from: (?P<path>\S+) -->\n```\w*\n(?P<text>.*?)\n```", re.DOTALL)


def quotes(page: str) -> list[tuple[str, str]]:
    """Paths and texts of the blocks that name a file."""
    return [(match["path"], match["text"]) for match in QUOTE.finditer(page)]


def stands_in(text: str, file: str) -> bool:
    """Whole lines, in one piece."""
    return f"\n{text}\n" in f"\n{file}\n"


def page() -> str:
    if not PLUGIN.is_dir():
        pytest.skip("plugins/ was deleted: nothing to hold docs/extending/head.md to")
    return (ROOT / "docs" / "extending" / "head.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "docs" / "extending").glob("*.md")))
def test_every_page_quotes_files_as_they_are(name: str) -> None:
    page()
    for path, text in quotes((ROOT / "docs" / "extending" / name).read_text(encoding="utf-8")):
        file = (ROOT / path).read_text(encoding="utf-8")
        assert stands_in(text, file), f"docs/extending/{name} quotes {path} otherwise than it is:\n{text}"


def test_the_page_quotes_the_whole_module_and_names_every_mark() -> None:
    found = quotes(page())
    module = PLUGIN / "src" / "calmkit_laplace_head.py"
    assert (module.relative_to(ROOT).as_posix(), module.read_text(encoding="utf-8").strip("\n")) in found
    assert len(found) == page().count("<!-- from: ") == 4


def test_the_module_stays_small() -> None:
    page()
    module = PLUGIN / "src" / "calmkit_laplace_head.py"
    assert len(module.read_text(encoding="utf-8").splitlines()) < 60


def test_a_changed_quote_is_seen() -> None:
    ((path, text),) = quotes("words\n<!-- from: a/b.py -->\n```python\nx = 1\ny = 2\n```\nwords")
    assert (path, text) == ("a/b.py", "x = 1\ny = 2")
    assert stands_in(text, "w = 0\nx = 1\ny = 2\nz = 3\n")
    assert not stands_in(text, "x = 1\n\ny = 2\n")
    assert not stands_in(text, "xx = 1\ny = 2\n")
