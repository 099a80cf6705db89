"""What people and models write does nothing, wherever it is written: pages, tables, CSV, LaTeX, terminals."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from made_results import made_cell, made_results

from calmkit.cli.main import cli
from calmkit.printed import printed
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.tree import parse
from calmkit.report.latex import latex_escaped
from calmkit.report.page import report_page
from calmkit.report.render import as_csv
from calmkit.report.whole import whole_latex, whole_markdown, whole_text

EVIL = [
    '=HYPERLINK("http://x.example","y")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\uff1d1+1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><svg onload=alert(1)>",
    "]]><x>",
    "&lt;script&gt;",
    "{{7*7}}{% for x in y %}",
    "${oc.env:HOME}",
    r"\input{/etc/passwd}",
    r"\write18{id}",
    r"}\end{tabular}\immediate\write18{id}",
    "$\\mathdefault{x}$ ^^5cinput",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe",
    "[a](javascript:alert(1)) | b | `c`",
    "![a](http://x.example/a.png)",
    "../../x",
]


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    cells = [made_cell(" ".join(EVIL[n::8]), [4.9, 5.3]) for n in range(8)]
    return made_results(cells, description=" ".join(EVIL), versions={"calmkit": EVIL[7]}, study="../../x")


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.names |= {name for name, _ in attrs}


def test_a_page_holds_no_tag_and_no_handler_of_a_text(results: dict[str, object]) -> None:
    text = report_page(results)
    page = Tags(text)
    assert not {"script", "img", "iframe", "object", "x", "base"} & page.found
    assert not [name for name in page.names if name.startswith("on")]
    assert "{{7*7}}" in text  # as it was written: no template computed 49 of it


@pytest.mark.parametrize("text", EVIL)
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    [[head], [cell]] = csv.reader(io.StringIO(as_csv([text], [[text]])))
    for shown in (head, cell):
        assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))
        assert shown.isprintable()


def test_numbers_of_a_csv_are_numbers() -> None:
    assert as_csv(["a"], [[-1.5], ["-1.5"], ["+3e-4"], [None], ["-"]]) == 'a\n-1.5\n-1.5\n+3e-4\n""\n-\n'


@pytest.mark.parametrize("text", EVIL)
def test_latex_obeys_no_command_of_a_text(text: str) -> None:
    made = latex_escaped(text)
    commands = set(re.findall(r"\\([a-zA-Z]+)", made))
    assert commands <= {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater",
                        "textbar", "textasciigrave"}  # fmt: skip
    assert not re.search(r"(?<!\\)[$%&#_]", made)
    assert "^^" not in made


def test_the_tables_of_a_study_hold_no_command_tag_or_control_character(results: dict[str, object]) -> None:
    latex = whole_latex(results)
    assert not re.search(r"\\(input|write|immediate)", latex)
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}")
    markdown = whole_markdown(results)
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert not re.search(r"(?<!\\)\]\(", markdown)
    for made in (latex, markdown, whole_text(results)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", made)


def test_a_terminal_shows_control_characters_and_does_not_act_upon_them() -> None:
    assert printed("a\x1b[31mb\x07\u202ec\td\né語") == "a\\x1b[31mb\\x07\\u202ec\td\né語"
    result = CliRunner().invoke(cli, ["show", "tiny/\x1b[31mred"])
    assert result.exit_code == 2
    result = CliRunner().invoke(cli, ["validate", "tiny/energy", "head=\x1b[31mred"], color=True)
    assert "\\x1b[31mred" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("text", ['"\\e[31mred"', '"\\x07"', '"\\u202e"', '"\\0"', '"\\x9b1m"'])
@pytest.mark.parametrize("place", ["name: {}", "{}: 1", "description: [{}]"])
def test_no_recipe_holds_a_control_character(text: str, place: str) -> None:
    with pytest.raises(RecipeError, match=r"has no place in a recipe") as told:
        parse(place.format(text), "a.yaml")
    assert told.value.problems[0].code == "CK101"
