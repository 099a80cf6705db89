"""Paths and accounts, taken out of texts: each value by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from calmkit.sharing.places import last_name, recipe_without_places, without_places

WHOLE = [
    ("/home/me/letters.txt", "letters.txt"),
    ("~/letters/", "letters"),
    ("~me/letters.txt", "letters.txt"),
    ("../../home/me/*.jsonl", "*.jsonl"),
    ("C:\\Users\\me\\letters.txt", "letters.txt"),
    ("\\\\server\\share\\letters.txt", "letters.txt"),
    ("file:///home/me/letters.txt", "letters.txt"),
    ("https://me:secret@host.org/a/b.txt", "https://host.org/a/b.txt"),
    ("letters/a.txt", "letters/a.txt"),  # from the current folder: it tells of no machine
    ("val/token_accuracy", "val/token_accuracy"),
    ("/", "/"),
    ("\\t", "\\t"),
]
PROSE = [
    ("/home/me/a.txt: 3 lines of /srv/x/b.txt, not C:\\d\\e.txt", "a.txt: 3 lines of b.txt, not e.txt"),
    ("data.train=/home/me/a.txt", "data.train=a.txt"),
    ("[~/x/a.txt,../b.txt]", "[a.txt,b.txt]"),
    ("and/or, 3/4, /imagine a thing, https://host.org/a/b.txt", None),
]


@pytest.mark.parametrize(("text", "left"), WHOLE)
def test_a_setting_that_is_a_path_keeps_its_last_name(text: str, left: str) -> None:
    assert without_places(text, prose=False) == left


@pytest.mark.parametrize(("text", "left"), PROSE)
def test_paths_among_other_words_keep_their_last_name(text: str, left: str | None) -> None:
    assert without_places({"said": [text, 3, None]}) == {"said": [left or text, 3, None]}


def test_a_folder_with_a_space_in_its_name_goes_where_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my work").mkdir()
    monkeypatch.chdir(tmp_path / "my work")
    assert without_places(f"'{tmp_path}/my work/a.txt' is cut") == "'a.txt' is cut"


def test_a_recipe_keeps_what_only_looks_like_a_path() -> None:
    recipe = {
        "name": "paper/mar",
        "description": "as in /home/me/notes.md",
        "data": {"name": "text", "train": ["/a/b.txt", "c.txt"], "text_key": "text"},
        "stages": {"lm": {"init_from": "/runs/mine", "max_steps": 3}},
        "evaluation": {"sample_prompt": "/home/me/ holds", "draws": 2},
    }
    left = recipe_without_places(recipe)
    assert left["name"] == "paper/mar"
    assert left["description"] == "as in notes.md"
    assert left["data"] == {"name": "text", "train": ["b.txt", "c.txt"], "text_key": "text"}
    assert left["stages"] == {"lm": {"init_from": "mine", "max_steps": 3}}
    assert left["evaluation"] == {"sample_prompt": "/home/me/ holds", "draws": 2}  # the model goes on from it


def test_the_last_name_of_nothing_is_empty() -> None:
    assert (last_name("/a/b/"), last_name("//")) == ("b", "")
