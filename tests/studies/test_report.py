"""The page of a study: self-contained, safe against what models write, and complete."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from calmkit.studies.report import write_picture, write_report

LOADS = {"src", "srcset", "href", "xlink:href", "action", "data", "poster"}


class Page(HTMLParser):
    """Every tag, what would be loaded, and the text of each tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in LOADS]

    def handle_data(self, data: str) -> None:
        if self.tags and data.strip():
            self.words.setdefault(self.tags[-1], []).append(data.strip())


def cell(label: str, score: float) -> dict[str, Any]:
    evaluation = {
        "brier_lm": score, "brier_lm_low": max(0.0, score - 1), "brier_lm_high": score + 1, "brier_1": 0.1,
        "brier_2": 0.1, "brier_3": 0.1, "brier_4": 0.1, "tokens_per_second": 10.0, "draws_per_unit": 1.0,
        "network_calls_per_unit": None, "unigram_brier_lm": 2.0,
    }  # fmt: skip
    facts = {"parameters": {"head": 10}, "lm_train_flops": 2e12, "lm_seconds": 1.0}
    return {
        "label": label, "chunk_size": 4, "seed": 1, "recipe": "small", "evaluation": evaluation,
        "facts": facts,
        "curve": [{"step": 0, "flops": 0.0, "brier_lm": 0.0}, {"step": 5, "flops": 2e12, "brier_lm": score}],
        "resolved": f"name: {label}", "sample": "<script>alert(1)</script> & more",
    }  # fmt: skip


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "study": "s", "description": "two", "matched_by": "train_flops", "baseline": "a", "seconds": 60.0,
        "hardware": "a CPU", "commit": "abc", "failed": ["c"], "cells": [cell("a", 3.0), cell("b", 5.0)],
    }  # fmt: skip


@pytest.fixture
def page(summary: dict[str, Any], tmp_path: Path) -> Page:
    write_report(summary, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_anywhere(page: Page, tmp_path: Path) -> None:
    assert all(value.startswith(("#", "data:")) for value in page.loaded), page.loaded
    assert not {"script", "iframe", "object", "embed", "img"} & set(page.tags)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(http" not in text.replace(" ", "")


def test_what_a_model_wrote_is_text(page: Page, tmp_path: Path) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in (tmp_path / "report.html").read_text()


def test_it_shows_every_model_the_best_first(page: Page) -> None:
    assert page.words["h3"] == ["b", "a"]
    assert page.tags.count("svg") == 2
    assert page.tags.count("tr") == 3  # the heads and two models


def test_a_failed_model_is_named(page: Page, summary: dict[str, Any], tmp_path: Path) -> None:
    assert "Failed:" in page.words["strong"]
    summary["failed"] = []
    write_report(summary, tmp_path / "again.html")
    assert "Failed:" not in (tmp_path / "again.html").read_text()


def test_the_same_results_give_the_same_page(page: Page, summary: dict[str, Any], tmp_path: Path) -> None:
    write_report(summary, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_the_picture_is_an_svg_with_both_panels(summary: dict[str, Any], tmp_path: Path) -> None:
    write_picture(summary, tmp_path / "p.svg")
    root = ElementTree.fromstring((tmp_path / "p.svg").read_text())
    assert root.tag.endswith("svg")
    words = {element.text for element in root.iter() if element.text}
    assert {"a", "b", "BrierLM on held-out text, with 95 % interval"} <= words
    panels = {element.get("id") for element in root.iter()}
    assert {"axes_1", "axes_2"} <= panels


def test_the_ceiling_is_drawn_in_both_figures_where_it_is_known(
    page: Page, summary: dict[str, Any], tmp_path: Path
) -> None:
    def words() -> str:
        write_report(summary, tmp_path / "known.html")
        return (tmp_path / "known.html").read_text(encoding="utf-8")

    del page
    assert "ceiling" not in words()
    best = {f"ceiling_brier_{n}": 0.1 for n in (1, 2, 3, 4)}
    for one in summary["cells"]:
        one["evaluation"] |= {"ceiling_brier_lm": 10.0, "ceiling_nll_per_token": 0.5, **best}
    known = words()
    assert known.count(">ceiling</text>") == 2  # one label in each figure
    assert "a (3.00): level with the unigram (2.00), 7.00 below the ceiling (10.00)" in known
    assert "b (5.00): above the unigram (2.00), 5.00 below the ceiling (10.00)" in known
