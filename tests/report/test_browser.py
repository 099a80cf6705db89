"""The page in a real browser: it renders, stays inside its window, asks for nothing, complains of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import PROGRAMS, Chromium, chromium, find_chromium
from made_results import made_cell, made_results, rich_results

from calmkit.report.page import write_report

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason=f"no browser: none of {', '.join(PROGRAMS)} is on the PATH"
)
WINDOWS = [(width, dark) for width in (360, 1400) for dark in (False, True)]
OUTSIDE = """
[...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.wide') || e.matches('.wide'))  // a wide table scrolls inside of it
  .filter(e => !e.closest('svg') || e.matches('svg'))
  .filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
  })
  .map(e => e.tagName + ': ' + e.textContent.slice(0, 40))
"""
CUT = """
[...document.querySelectorAll('svg')].flatMap(svg => {
  const room = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect();
    const across = box.left < room.left - 2 || box.right > room.right + 2;
    return across || box.top < room.top - 2 || box.bottom > room.bottom + 2;
  }).map(text => svg.getAttribute('aria-label').slice(0, 30) + ': ' + text.textContent);
})
"""
SMALLEST = """
Math.min(...[...document.querySelectorAll('svg text')].map(text => {
  const scale = text.getScreenCTM();
  return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(scale.a, scale.b);
}))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(rich_results(), path)
    return path


@pytest.mark.parametrize(("width", "dark"), WINDOWS)
def test_nothing_overflows_and_nothing_is_complained_of(
    browser: Chromium, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width, dark)
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(OUTSIDE) == []
    assert browser.complaints() == []
    assert browser.requests() == [page.resolve().as_uri()]


@pytest.mark.parametrize("width", [360, 1400])
def test_every_word_of_a_figure_is_inside_it_and_can_be_read(
    browser: Chromium, page: Path, width: int
) -> None:
    browser.open(page, width)
    assert browser.ask("document.querySelectorAll('svg').length") == 12
    assert browser.ask(CUT) == []
    assert browser.ask(SMALLEST) >= 8  # CSS pixels


def test_it_follows_the_scheme_of_the_reader(browser: Chromium, page: Path) -> None:
    inks = {}
    for dark in (False, True):
        browser.open(page, 1400, dark)
        inks[dark] = (
            browser.ask("getComputedStyle(document.body).color"),
            browser.ask("getComputedStyle(document.body).backgroundColor"),
            browser.ask("getComputedStyle(document.querySelector('svg text')).fill"),
        )
    assert inks[False] == ("rgb(28, 28, 30)", "rgb(253, 253, 251)", "rgb(28, 28, 30)")
    assert inks[True] == ("rgb(233, 233, 230)", "rgb(23, 24, 26)", "rgb(233, 233, 230)")


def test_a_wide_table_scrolls_alone(browser: Chromium, page: Path) -> None:
    browser.open(page, 360)
    scrolled = browser.ask(
        "(b => { b.scrollLeft = 400; return b.scrollLeft })(document.querySelector('.wide'))"
    )
    assert scrolled > 100
    assert browser.ask("(scrollTo(200, 0), scrollX)") == 0


def test_recipes_unfold_without_a_script(browser: Chromium, page: Path) -> None:
    browser.open(page, 360)
    shown = "document.querySelector('details pre').checkVisibility()"
    assert browser.ask(shown) is False
    browser.ask("document.querySelector('details summary').click()")
    assert browser.ask(shown) is True
    assert browser.ask("document.documentElement.scrollWidth") <= 360


def test_the_measures_of_this_file_can_fail(browser: Chromium, tmp_path: Path) -> None:
    """A page with one fault of each kind."""
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        "<!doctype html><meta name=viewport content='width=device-width'><p style='width:900px'>wide</p>"
        "<svg viewBox='0 0 100 20' style='width:50px' aria-label='a'><text x='90' y='9' font-size='9'>cut off"
        "</text></svg><img src='missing.png'><script>console.error('no')</script>",
        encoding="utf-8",
    )
    browser.open(faulty, 360)
    assert browser.ask(OUTSIDE) != []
    assert browser.ask(CUT) == ["a: cut off"]
    assert browser.ask(SMALLEST) < 8
    assert browser.complaints() != []
    assert len(browser.requests()) == 2


def test_a_long_word_bends(browser: Chromium, tmp_path: Path) -> None:
    """Names and samples without a space."""
    cell = made_cell("x" * 90, [1.0, 1.1])
    cell["trials"][0]["sample"] = "y" * 300
    write_report(made_results([cell, made_cell("b" * 90, [2.0, 2.1])]), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 360)
    assert browser.ask("document.documentElement.scrollWidth") <= 360
    assert browser.ask(OUTSIDE) == []
