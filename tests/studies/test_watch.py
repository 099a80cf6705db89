"""What a person sees of a running study, by hand: which lines come when, and a table in a terminal."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_jobs import wait_for

from calmkit.studies.board import Board, Running
from calmkit.studies.display import LinesDisplay, TableDisplay, display_here
from calmkit.studies.time_left import Share
from calmkit.studies.watch import Watch, Watched
from calmkit.training.standing import Standing, StandingFile


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


TRAINS = Running(
    "energy, seed 1", Standing("lm", "step", 120, 420, loss=1.23456, scores={"brier_lm": 3.21}), 70.0
)
STARTS = Running("flow, seed 1", Standing())


def board(*running: Running, elapsed: float = 192.0, left: float | None = 360.0, failed: int = 0) -> Board:
    return Board(running, "trials done", 2, 5, failed, elapsed, left)


def test_a_line_tells_all() -> None:
    assert board(TRAINS, STARTS).line() == (
        "2 of 5 trials done, 3.2 min, about 6.0 min left | energy, seed 1: lm step 120/420, loss 1.235, "
        "held out brier_lm 3.21; flow, seed 1: starting"
    )
    assert (
        board(left=None, failed=1).line() == "2 of 5 trials done, 1 failed, 3.2 min | nothing has started yet"
    )
    assert board(*[STARTS] * 7).line().endswith("flow, seed 1: starting; and 3 more")


def test_plain_lines_come_only_where_nothing_was_said_for_long() -> None:
    lines, clock = list[str](), Clock()
    display = LinesDisplay(lines.append, clock)
    for now in range(0, 60):
        clock.now = float(now)
        if now == 30:
            display.say("something ended")
        display.show(board(STARTS, elapsed=clock.now, left=None))
    assert [line.split(" | ")[0] for line in lines] == [
        "2 of 5 trials done, 20 s",
        "something ended",
        "2 of 5 trials done, 50 s",
    ]
    assert not any(ord(letter) < 32 for line in lines for letter in line)


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_in_a_terminal(width: int) -> None:
    """It is redrawn in place, taken away at the end, fits the width, and said lines stay above it."""
    screen = io.StringIO()
    display = TableDisplay(Console(file=screen, force_terminal=True, width=width, height=30))
    display.show(board(TRAINS, STARTS))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert [line.split()[0] for line in lines] == ["trial", "energy,", "flow,", "2"]
    assert "lm 120/420" in lines[1]
    assert "1.235" in lines[1]
    assert "brier_lm 3.21" in lines[1]
    assert lines[1].endswith("1.2 min")
    assert lines[-1] == "2 of 5 trials done, 3.2 min, about 6.0 min left"
    assert max(map(len, lines)) <= width
    before = len(screen.getvalue())
    display.say("[1/5] energy [bold]: done")
    assert "[1/5] energy [bold]: done" in screen.getvalue()[before:]
    display.show(board(STARTS))
    assert "\x1b[1A" in screen.getvalue()[before:]  # the cursor goes up: it is the same table
    display.clear()
    display.clear()
    assert screen.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))


def test_a_long_name_leaves_room_for_the_rest() -> None:
    screen = io.StringIO()
    display = TableDisplay(Console(file=screen, force_terminal=True, width=80, height=30))
    display.show(board(Running("m" * 90, TRAINS.standing, 7800.0)))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    display.clear()
    (row,) = [line for line in text.splitlines() if line.startswith("mmm")]
    assert "lm 120/420" in row
    assert "1.235" in row
    assert row.rstrip().endswith("2 h 10 min")


def test_more_than_a_screen_is_counted() -> None:
    screen = io.StringIO()
    display = TableDisplay(Console(file=screen, force_terminal=True, width=80, height=60))
    display.show(board(*[STARTS] * 20))
    display.clear()
    assert "and 4 more" in screen.getvalue()


def test_what_suits_the_place_standard_output_goes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, kind in ((True, TableDisplay), (False, LinesDisplay)):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal, raising=False)
        assert type(display_here(print)) is kind


def watched(folder: Path, name: str, counts: bool = True) -> Watched:
    return Watched(name, folder / f"{name}.json", {"lm": 90.0}, counts)


def test_a_watch_reads_the_files_of_what_runs_and_counts_what_has_ended(tmp_path: Path) -> None:
    clock, lines = Clock(), list[str]()
    shared, trials = watched(tmp_path, "shared", counts=False), [watched(tmp_path, n) for n in "abc"]
    watch = Watch([([shared], 1), (trials, 2)], LinesDisplay(lines.append, clock), done=2, clock=clock)
    StandingFile(trials[0].file).write(Standing("lm", "step", 10, 100))  # of a try that was killed
    clock.now = 30.0
    seen = watch.look()
    assert (seen.running, seen.done, seen.total, seen.elapsed, seen.left) == ((), 2, 5, 30.0, None)
    watch.ended("shared", True, seconds=50.0)
    with watch.over(["a", "b"]):
        StandingFile(trials[0].file).write(Standing("lm", "step", 50, 100, phase_seconds=45.0))
        seen = watch.look()
        assert [one.name for one in seen.running] == ["a"]  # b has not started
        assert seen.running[0].left == pytest.approx(55.0)
        assert seen.done == 2
        watch.ended("a", True)
        watch.ended("b", False)
        assert watch.look().running == ()
    seen = watch.look()
    assert (seen.done, seen.failed) == (3, 1)
    assert seen.left is not None


def test_a_watch_looks_while_processes_run_and_no_longer(tmp_path: Path) -> None:
    shown = threading.Event()
    one, clock = watched(tmp_path, "a"), Clock()
    StandingFile(one.file).write(Standing("lm"))
    display = LinesDisplay(lambda line: shown.set(), clock)
    watch = Watch([([one], 1)], display, clock=clock)
    clock.now = 21.0
    with watch.over(["a"], poll=0.01):
        wait_for(shown.is_set)
    assert not [thread for thread in threading.enumerate() if thread.name == "watch"]


def test_what_ends_during_a_look_stays_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after what was known of it was taken up, and before that is put back with its standing."""
    one = watched(tmp_path, "a")
    watch = Watch([([one], 1)], LinesDisplay(lambda line: None), clock=Clock())
    ender = threading.Thread(target=watch.ended, args=("a", True, 50.0))

    def slow(share: Share, **changes: Any) -> Share:
        if ender.ident is None:
            ender.start()
            ender.join(0.2)  # with a lock it waits for the look to be over
        return replace(share, **changes)

    StandingFile(one.file).write(Standing("lm", "step", 50, 100))
    with watch.over(["a"], poll=60.0):
        monkeypatch.setattr("calmkit.studies.watch.replace", slow)
        watch.look()
        ender.join()
        assert watch.look().running == ()


def test_a_closed_output_ends_no_study(tmp_path: Path) -> None:
    tried = threading.Event()

    def closed(line: str) -> None:
        tried.set()
        raise BrokenPipeError

    clock = Clock()
    watch = Watch([([watched(tmp_path, "a")], 1)], LinesDisplay(closed, clock), clock=clock)
    clock.now = 21.0
    with watch.over(["a"], poll=0.01):
        wait_for(tried.is_set)
