"""The page of a study: self-contained, safe against what people and models write, and complete."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_results import made_cell, made_results, rich_results

from calmkit.recipe.resolved import flat
from calmkit.report.page import commands, report_page, write_picture, write_report
from calmkit.report.recipes import cell_recipes, differing

LOADS = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Tags that were opened, what would be loaded, ids, and the text under each tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.loaded += [value or "" for name, value in attrs if name in LOADS]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.words.setdefault(self.open[-1], []).append(data.strip())


@pytest.fixture(scope="module")
def text() -> str:
    return report_page(rich_results())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_is_loaded_from_anywhere(page: Page, text: str) -> None:
    assert all(value.startswith(("#", "data:")) for value in page.loaded), page.loaded
    assert not {"script", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert "@import" not in text
    assert "url(http" not in text.replace(" ", "")
    assert "http" not in text  # not even the name of a standard


def test_every_tag_that_was_opened_is_closed(page: Page) -> None:
    assert page.open == []


def test_no_id_stands_twice_and_every_reference_is_met(page: Page) -> None:
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    assert {value.removeprefix("#") for value in page.loaded if value.startswith("#")} <= set(page.ids)


def test_what_people_and_models_write_is_text(text: str) -> None:
    assert "<script" not in text
    assert "<b>" not in text
    assert "Six models &lt;script&gt;alert(1)&lt;/script&gt; &amp; more." in text
    assert "text by &lt;b&gt;bold&lt;/b&gt; &amp; a_b$c$ 100% of a long name" in text


def test_it_shows_every_part(page: Page) -> None:
    assert page.words["h2"] == ["Table", "Figures", "Latents", "Samples", "Recipes", "Provenance"]
    figures = [
        "Score at the end", "Learning by training FLOPs", "Learning by time", "Loss",
        "Quality against FLOPs per token", "Quality against speed", "Accuracy against collision",
        "Block length", "Posterior scales", "Active dimensions", "Robustness to noise", "Projection",
    ]  # fmt: skip
    assert [title for title in page.words["h3"] if title in figures] == figures
    assert page.tags.count("svg") == len(figures) == page.tags.count("figcaption")
    assert "versions" not in page.words["h3"]


def test_every_figure_and_table_is_told_in_words(page: Page) -> None:
    for tag, attributes in page.attributes:
        if tag == "svg":
            assert (attributes["role"], bool(attributes["aria-label"])) == ("img", True)
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    assert page.tags.count("caption") == page.tags.count("table")


def test_light_and_dark_and_a_phone(text: str, page: Page) -> None:
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.attributes


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_from_the_page(text: str, scheme: str) -> None:
    """WCAG 2: 4.5 to 1 for text, 3 to 1 for what a figure is read by."""
    light, dark = text.split("@media (prefers-color-scheme: dark)", 1)
    rule = (light if scheme == "light" else dark).split(":root {", 1)[1].split("}", 1)[0]
    values = dict(re.findall(r"(--\w[\w-]*): (#[0-9a-f]{6});", rule))

    def luminance(name: str) -> float:
        channels = [int(values[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    words = [("--ink", "--paper"), ("--soft", "--paper"), ("--ink", "--panel"), ("--soft", "--panel"),
             ("--plus", "--plus-back"), ("--minus", "--minus-back")]  # fmt: skip
    assert all(contrast(*pair) >= 4.5 for pair in words)
    assert all(contrast(f"--c{index}", "--paper") >= 3 for index in range(8))


def test_samples_stand_side_by_side_the_best_first(page: Page) -> None:
    samples = [word for word in page.words["pre"] if word.startswith("text by")]
    assert [sample.split("\n")[0] for sample in samples[:2]] == ["text by softmax", "text by mixture"]
    assert len(samples) == 6


def test_recipes_differ_line_by_line() -> None:
    theirs = {"head.name": "energy", "head.num_draws": "8", "seed": "1", "same": "x"}
    ours = {"head.name": "flow", "head.num_steps": "4", "seed": "2", "same": "x"}
    assert [f"{line.sign} {line.text}" for line in differing(theirs, ours)] == [
        "- head.name: energy",
        "+ head.name: flow",
        "- head.num_draws: 8",
        "+ head.num_steps: 4",
    ]


def test_a_recipe_is_flat_by_hand() -> None:
    assert flat("a: {b: 1, c: [x, 2.0]}\nd: null\ne: {}\n") == {
        "a.b": "1",
        "a.c": "[x, 2.0]",
        "d": "null",
        "e": "{}",
    }


def test_what_differs_by_run_alone_is_no_difference() -> None:
    """Two cells, one of another chunk size; descriptions, seeds and autoencoder folders differ in both."""
    found = cell_recipes(made_results([made_cell("a", [1.0]), made_cell("b", [2.0], chunk_size=1)]))
    assert [(one.label, one.is_baseline, len(one.difference)) for one in found] == [
        ("b", False, 2),
        ("a", True, 0),
    ]
    assert [line.text for line in found[0].difference] == [
        "autoencoder.chunk_size: 2",
        "autoencoder.chunk_size: 1",
    ]


def test_the_signs_of_a_difference_are_no_colours_alone(text: str) -> None:
    assert '<span class="minus">- autoencoder.chunk_size: 2</span>' in text
    assert '<span class="plus">+ autoencoder.chunk_size: 1</span>' in text


@pytest.mark.parametrize(
    ("results", "told"),
    [
        (
            {"path": "made.yaml", "overrides": ["data.train=a b"]},
            "calmkit study run made.yaml 'data.train=a b'",
        ),
        ({"study": "quickstart", "path": "quickstart.yaml"}, "calmkit study run quickstart"),
        ({"study": "quickstart", "path": "mine.yaml"}, "calmkit study run mine.yaml"),
        ({"command": "calmkit compare a b"}, "calmkit compare a b"),
    ],
)
def test_how_to_get_it_again(results: dict[str, Any], told: str) -> None:
    assert commands(made_results([made_cell("a", [1.0])], **results))[-1] == told


def told(**results: Any) -> str:
    return " ".join(
        re.sub("<[^>]*>", "", report_page(made_results([made_cell("a", [1.0])], **results))).split()
    )


def test_the_page_says_where_its_numbers_lie() -> None:
    """A study's beside its page; those of a comparison are printed."""
    study = told(folder="runs/studies/heads")
    assert "stand in results.json in runs/studies/heads; beside it table.csv has a row per model" in study
    assert "stand in results.json in the folder of the study; beside it" in told()
    runs = told(command="calmkit compare a b")
    assert "calmkit compare a b --json" in runs
    assert "results.json" not in runs


def test_a_commit_is_checked_out_where_there_is_one() -> None:
    def first(commit: str) -> str:
        return commands(made_results([made_cell("a", [1.0])], commit=commit))[0]

    assert first("abc123") == "git checkout abc123"
    assert first("abc123+changes") == "git checkout abc123"
    assert first("none").startswith("calmkit")
    assert first("abc, def").startswith("calmkit")


def test_a_study_with_little_has_a_page(tmp_path: Path) -> None:
    """One cell, one seed, no latents, no samplers."""
    write_report(made_results([made_cell("a", [1.0])], text=None), tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.words["h2"] == ["Table", "Figures", "Samples", "Recipes", "Provenance"]
    assert any("lock.yaml" in word for word in page.words["p"])


def test_the_same_results_give_the_same_page(text: str) -> None:
    assert report_page(rich_results()) == text


def test_the_picture_is_an_svg_file(tmp_path: Path) -> None:
    write_picture(rich_results(), tmp_path / "p.svg")
    root = ElementTree.fromstring((tmp_path / "p.svg").read_text(encoding="utf-8"))
    assert root.tag.endswith("svg")
    assert root.get("width") is not None


def test_a_figure_of_the_report_can_be_a_file_of_its_own(tmp_path: Path) -> None:
    number = {"label": "share", "better": "lower", "meaning": "A share.", "mark": 1.0}
    points = {"points": [[0.9, 2.0], [0.8, 3.0]], "cut_off": [[1.2, 0.0]]}
    relation = {"x": "share", "y": "brier_lm", "names": {"share": "a share", "brier_lm": "BrierLM"}}
    relation |= {"series": [{"label": "energy", "exact": False, **points}]}
    summary = rich_results() | {"relation": relation}
    write_picture(summary, tmp_path / "without.svg", "relation")
    summary["measures"] = {"share": number}
    write_picture(summary, tmp_path / "with.svg", "relation")
    without, marked = ((tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in ("without", "with"))
    assert "a share" in marked
    assert marked.count("stroke-dasharray") == without.count("stroke-dasharray") + 1  # the line at 1
    with pytest.raises(ValueError, match="hold nothing for the figure 'relation'"):
        write_picture(rich_results(), tmp_path / "none.svg", "relation")


def test_a_key_that_an_older_run_does_not_say_is_no_difference() -> None:
    summary = made_results([made_cell("a", [1.0]), made_cell("b", [2.0])])
    (trial,) = summary["cells"][1]["trials"]
    trial["resolved"] = trial["resolved"].replace("name: stdlib,", "name: stdlib, valid_fraction: 0.05,")
    trial["resolved"] += "trainer: {num_nodes: 1}\n"
    assert [one.difference for one in cell_recipes(summary)] == [(), ()]
