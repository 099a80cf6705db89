"""What docstrings and pages name by its place, such as `calmkit.rows.draw_rows`, is there."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

import calmkit

ROOT = Path(__file__).parents[1]
CODE = Path(calmkit.__file__).parent
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "decisions"]
"""Without the decisions: they are dated, and name what there was."""
FILES = [*sorted(CODE.rglob("*.py")), *PAGES]
NAMED = re.compile(r"`(calmkit(?:\.\w+)+)`")


def nowhere(text: str) -> list[str]:
    """The dotted names of a text that lead to nothing, in the order in which they stand there."""
    found = []
    for name in dict.fromkeys(NAMED.findall(text)):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            found.append(name)
    return found


def test_a_name_that_leads_to_nothing_is_found() -> None:
    assert nowhere("`calmkit.rows.draw_rows`, `calmkit.generation.draw_rows`, `calmkit.attic`") == [
        "calmkit.generation.draw_rows",
        "calmkit.attic",
    ]


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda path: path.name)
def test_every_name_that_is_told_with_its_place_leads_somewhere(folder: Path) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in FILES if path.parent == folder}
    assert {name: lost for name, text in texts.items() if (lost := nowhere(text))} == {}
