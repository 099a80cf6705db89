"""The page on golden cases names tests that exist, and all of them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "truth.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
LETTERS = [*(f"E{i}" for i in range(1, 8)), "G1", "G3", "G5", *(f"F{i}" for i in range(1, 6))]
LETTERS += [*(f"D{i}" for i in (0, 1, 2, 3, 4, 6)), "V1"]
CASE = re.compile(r"test_(e|g|f|d|v)\d_|test_e_numerics_|test_g_|test_categorical_")


@cache
def functions(path: Path) -> frozenset[str]:
    """Names of the test functions of a file."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_"))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), f"docs/truth.md names {path}, which is not there"
    assert name in functions(ROOT / path), f"docs/truth.md names {path}::{name}, which is not there"


@pytest.mark.parametrize("letter", LETTERS)
def test_every_case_has_a_test_with_its_letter(letter: str) -> None:
    assert re.search(rf"^\| [^|]*\b{letter}\b[^|]*\|.*`", PAGE, re.MULTILINE), f"{letter} is not on the page"
    assert any(name.startswith(f"test_{letter.lower()}_") for _, name in NAMED)


def test_no_golden_test_is_left_out() -> None:
    there = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in functions(path)
        if CASE.match(name)
    }
    assert there - set(NAMED) == set()
    assert len(NAMED) == len(set(NAMED)) > 50
