"""Model cards: the head is YAML, and nothing that is told becomes mark-up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from calmkit.images.words import WORDS as OF_IMAGES
from calmkit.sharing.card import Told, fenced, model_card, plain, score_rows

RECIPE: dict[str, Any] = {"name": "mine", "description": "", "data": {"name": "digits"}}
TOLD = Told("me/mine", "out", RECIPE, OF_IMAGES, "images")
EVIL = "a\n---\nlicense: mit\n# b <script>alert(1)</script> | ```` ![x](y) [z](javascript:1)"


def head_and_body(card: str) -> tuple[Any, str]:
    assert card.startswith("---\n")
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(head), body


def test_the_head_names_library_tags_and_a_licence_only_where_it_is_known() -> None:
    head, body = head_and_body(model_card(TOLD))
    assert head == {"library_name": "calmkit", "tags": ["calmkit", "continuous-autoregressive", "images"]}
    head, body = head_and_body(model_card(replace(TOLD, licence="apache-2.0")))
    assert head["license"] == "apache-2.0"
    assert 'model = calmkit.load("me/mine")' in body
    assert "hf download me/mine --local-dir out\ncalmkit generate out\n" in body
    assert "Not measured." in body
    assert "of no known fingerprint" in body


def test_no_text_becomes_a_key_a_heading_or_html() -> None:
    recipe = RECIPE | {"name": EVIL, "description": EVIL, "data": {"name": EVIL}}
    lock = {"data": EVIL, "warnings": [EVIL], "versions": {EVIL: EVIL}, "python": EVIL}
    scores = {EVIL: 1.0, "protocol": {"name": EVIL}}
    told = Told(EVIL, EVIL, recipe, OF_IMAGES, EVIL, scores, lock, {"heads/x": EVIL}, EVIL)
    head, body = head_and_body(model_card(told))
    assert head.keys() == {"library_name", "tags", "license"}
    assert head["license"] == head["tags"][-1] == " ".join(EVIL.split())
    outside, fence = [], ""
    for line in body.splitlines():
        marks = line[: len(line) - len(line.lstrip("`"))]
        if len(marks) >= 3 and (not fence or line == fence):
            fence = "" if fence else marks
        elif not fence:
            outside.append(line)
    assert fence == ""
    headings = ["Load", "Results", "Trained on", "Recipe", "Made with"]
    assert [line for line in outside if line.startswith("#")][1:] == [f"## {name}" for name in headings]
    assert not any("<" in line or "](" in line.replace("\\](", "") for line in outside)
    assert not any(line.startswith(("license", "---")) for line in outside)
    table = [line for line in outside if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (3, 6) for line in table)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fd_low 3.11.7", "fd_low 3.11.7"),
        ("_a_ *b*", r"\_a\_ \*b\*"),
        ("1. a", r"1\. a"),
        ("- a", r"\- a"),
        ("===", r"\==="),
        ("&amp; <i>", "&amp;amp; &lt;i&gt;"),
        ("a\u2028b\x1b[31m", r"a b \[31m"),
    ],
)
def test_a_text_is_shown_letter_by_letter(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_block_of_code_ends_behind_its_text() -> None:
    assert fenced("a ``` b\n", "yaml") == "````yaml\na ``` b\n````"


def test_numbers_stand_with_their_interval_the_primary_one_first() -> None:
    scores = {"loss": 2.0, "fd": 1.25, "fd_low": 1.0, "fd_high": 1.5, "kd": 3, "kd_se": 0.5, "ok": True}
    assert list(score_rows(scores, "fd")) == [
        ["fd", "1.25", "1", "1.5", ""],
        ["loss", "2", "", "", ""],
        ["kd", "3", "", "", "0.5"],
    ]
