from __future__ import annotations

import json
import random

import pytest

from calmkit.text import overlap as overlap_module
from calmkit.text.overlap import Overlap, overlap
from calmkit.text.token_file import TokenFile
from calmkit.text.tokenizers.bytes import BytesTokenizer


@pytest.fixture
def files(list_corpus, tmp_path):
    def build(train: list[str], valid: list[str]) -> tuple[TokenFile, TokenFile]:
        corpus = list_corpus(train, valid)
        made = [TokenFile.build(corpus, split, BytesTokenizer(), tmp_path) for split in ("train", "valid")]
        return made[0], made[1]

    return build


def test_by_hand(files, tmp_path):
    # two of the three held-out documents are the same one, and it was trained on
    found = overlap(*files(["a", "bee", "c", "bee"], ["bee", "x", "bee"]), tmp_path)
    assert found == Overlap(shared=2, documents=3)
    assert found.share == pytest.approx(2 / 3)


def test_same_means_token_for_token(files, tmp_path):
    # one blank more, another case, a part, a whole of two
    train = ["one day ", "One day", "one", "one day one day", "another day"]
    assert overlap(*files(train, ["one day"]), tmp_path) == Overlap(0, 1)


def test_it_is_the_count_of_a_set(files, tmp_path, monkeypatch):
    monkeypatch.setattr(overlap_module, "BLOCK_DOCUMENTS", 7)  # the training text is many blocks
    pick = random.Random(0)
    texts = [["".join(pick.choices("ab", k=pick.randint(1, 6))) for _ in range(100)] for _ in range(2)]
    train, valid = texts
    shared = sum(text in set(train) for text in valid)
    assert 0 < shared < 100
    assert overlap(*files(train, valid), tmp_path) == Overlap(shared, 100)


def test_it_is_counted_once_for_the_same_content(files, tmp_path, monkeypatch):
    both = files(["a", "b"], ["b"])
    counted = overlap(*both, tmp_path)
    monkeypatch.setattr(overlap_module, "_shared", None)  # cannot be called
    assert overlap(*both, tmp_path) == counted == Overlap(1, 1)


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"shared": 0, "documents": 1, "seal": "x"}', "another"])
def test_a_damaged_count_is_made_anew(files, tmp_path, damage):
    both = files(["a", "b"], ["b"])
    overlap(*both, tmp_path)
    [path] = (tmp_path / "overlaps").iterdir()
    if damage == "another":  # a whole file, but of two other files
        overlap(*files(["a", "b"], ["c"]), tmp_path)
        [other] = (p for p in (tmp_path / "overlaps").iterdir() if p != path)
        damage = other.read_text()
        assert json.loads(damage)["shared"] == 0
    path.write_text(damage)
    assert overlap(*both, tmp_path) == Overlap(1, 1)


def test_a_cache_that_cannot_be_written_costs_no_answer(files, tmp_path):
    (tmp_path / "overlaps").write_text("taken")
    assert overlap(*files(["a", "b"], ["b"]), tmp_path) == Overlap(1, 1)
