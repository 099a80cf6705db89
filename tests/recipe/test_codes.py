"""Every code of an error is explained, and each explanation's example really gives its code and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_parts import WideHead

import calmkit
from calmkit.cli.main import cli
from calmkit.recipe.codes import CODES, EXAMPLE
from calmkit.registry import Manager, Part, make_manager

PACKAGE = Path(calmkit.__file__).parent
CODE = re.compile(r"CK\d{3}")


def used() -> set[str]:
    """Codes that stand as values anywhere in the package, those of the table itself left out."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        if file.name == "codes.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.add(node.value)
    return found


def told() -> set[str]:
    """Codes that are named anywhere in the package, docstrings and comments too."""
    return {code for file in PACKAGE.rglob("*.py") for code in CODE.findall(file.read_text(encoding="utf-8"))}


def test_every_code_that_is_used_is_explained_and_no_other() -> None:
    assert used() == set(CODES)
    assert told() == set(CODES)
    assert list(CODES) == sorted(CODES)


def with_a_guest() -> Manager:
    """The built-in parts, and a head that holds in float32 alone, as the guest of the docs does."""
    manager = make_manager(guests=[])
    manager.parts["heads"]["laplace"] = Part("heads", "laplace", LaplaceHead, "a guest")
    return manager


class LaplaceHead(WideHead):
    """Keeps the facts of a head that says nothing of half precision."""


@pytest.mark.parametrize("code", CODES)
def test_an_example_gives_its_code_and_no_other(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calmkit.registry.make_manager", with_a_guest)
    Path(EXAMPLE).write_text(CODES[code].example, encoding="utf-8")
    result = CliRunner().invoke(cli, CODES[code].command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert set(re.findall(r"^error\[(CK\d{3})\]", result.stderr, re.MULTILINE)) == {code}, result.stderr
    assert EXAMPLE in CODES[code].command


@pytest.mark.parametrize("code", CODES)
def test_an_explanation_is_sentences(code: str) -> None:
    found = CODES[code]
    assert found.cure.endswith(".")
    assert not found.meaning.endswith(".")
    assert "\n" not in found.meaning + found.cure


def test_explain_shows_meaning_cure_and_example() -> None:
    answers = [CliRunner().invoke(cli, ["explain", name]) for name in ("CK130", "ck130", "130")]
    assert {answer.exit_code for answer in answers} == {0}
    assert len({answer.stdout for answer in answers}) == 1
    assert answers[0].stdout == (
        "CK130: a key that nobody takes\n"
        "cure: The error lists the keys there are; `calmkit show heads/energy` says what each setting of a\n"
        "      part means.\n\n"
        "example.yaml:\n  extends: tiny/energy\n  head: {num_drawz: 4}\n\n"
        "refused by: calmkit validate example.yaml\n"
    )
    assert "a guest" in CliRunner().invoke(cli, ["explain", "CK148"]).stdout


def test_explain_alone_lists_all_codes_and_refuses_what_is_none() -> None:
    lines = CliRunner().invoke(cli, ["explain"]).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["code", *CODES]
    wrong = CliRunner().invoke(cli, ["explain", "CK999"])
    assert wrong.exit_code == 2
    assert "no error has the code 'CK999'" in wrong.stderr
