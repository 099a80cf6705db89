"""Where a process stands, by hand: what is written when, and what is read of a file that is not sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from calmkit.training.pace import patience, time_in_words
from calmkit.training.standing import Standing, StandingFile, read_standing


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_written_every_second_and_when_the_phase_changes(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "new" / "p.json"
    file = StandingFile(path, clock)

    def seen(after: float, phase: str, done: int) -> int:
        clock.now = 100.0 + after
        file.write(Standing(phase, "step", done, 9))
        found = read_standing(path)
        assert found is not None
        return found.done

    told = [(0.0, "lm", 1), (0.9, "lm", 2), (1.0, "lm", 3), (1.1, "evaluation", 4)]
    assert [seen(*now) for now in told] == [1, 1, 3, 4]
    assert [p.name for p in path.parent.iterdir()] == ["p.json"]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    clock = Clock()
    file = StandingFile(tmp_path / "p.json", clock)
    clock.now += 8.0
    told = Standing("lm", "step", 120, 420, loss=1.5, scores={"brier_lm": 2.0}, phase_seconds=3.0)
    file.write(told)
    found = read_standing(tmp_path / "p.json")
    assert found is not None
    assert (found.seconds, found.place, found.fraction) == (8.0, "step 120/420", 120 / 420)
    assert (found.loss, found.scores, found.phase_seconds) == (1.5, {"brier_lm": 2.0}, 3.0)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"phase": 1}', '{"done": "x"}', '{"who": 1}', '{"scores": []}', '{"total": "9"}'],
)
def test_what_is_no_standing_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(content)
    assert read_standing(tmp_path / "p.json") is None


def test_a_folder_that_refuses_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    StandingFile(tmp_path / "file" / "p.json").write(Standing("lm"))
    StandingFile(None).write(Standing("lm"))
    assert read_standing(tmp_path / "file" / "p.json") is None


@pytest.mark.parametrize(
    ("standing", "place", "fraction"),
    [
        (Standing("lm", "step", 3, 12), "step 3/12", 0.25),
        (Standing("lm", "step", 3), "step 3", 0.0),
        (Standing("counting"), "", 0.0),
        (Standing("train", "byte", 30, 20, words="2 documents"), "2 documents", 1.0),  # a size is a guess
        (Standing("lm", "step", 3, 0), "step 3/0", 0.0),
    ],
)
def test_place_and_fraction(standing: Standing, place: str, fraction: float) -> None:
    assert (standing.place, standing.fraction) == (place, fraction)


def test_it_can_be_told_before_torch_is_loaded() -> None:
    code = "import sys, calmkit.training.standing, calmkit.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3.0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1.0 min"),
        (192.0, "3.2 min"),
        (600.0, "10 min"),
        (3599.0, "1 h 0 min"),
        (7800.0, "2 h 10 min"),
        (86399.0, "1 d 0 h"),
        (3.2 * 86400, "3 d 5 h"),
        (float("inf"), "an unknown time"),
        (float("nan"), "an unknown time"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert time_in_words(seconds) == words


def test_nobody_waits_long_for_a_line_and_a_week_is_told_in_hundreds() -> None:
    assert patience(0.0) == patience(1000.0) == 20
    now, lines = 0.0, 0
    while now < 7 * 86400:
        now += patience(now)
        lines += 1
    assert 100 < lines < 500


def test_what_is_written_is_plain_json(tmp_path: Path) -> None:
    StandingFile(tmp_path / "p.json").write(Standing("lm", "step", 1, 2))
    assert json.loads((tmp_path / "p.json").read_text())["phase"] == "lm"
