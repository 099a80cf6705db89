"""No job outlives its launcher, whatever ends it, and nothing outlives its job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_jobs import ENDLESS, locked, log, python, wait_for, wait_for_lock

from calmkit.launchers.children import Children, Guard, note, run_command, terminable

PARENT = """
import sys
from pathlib import Path
from calmkit.launchers import guard
from calmkit.launchers.children import Children, terminable
guard.GRACE = 0.2
with terminable(), Children() as children:
    children.start(sys.argv[2:], Path(sys.argv[1]), {})
    Path(sys.argv[1]).with_suffix(".begun").touch()
    children.wait()
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, -2), (signal.SIGTERM, 143), (signal.SIGHUP, -1), (signal.SIGKILL, -9)],
)
def test_jobs_end_with_their_launcher(number: signal.Signals, code: int, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    job = python(tmp_path, ENDLESS, lock)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, job.log, *job.command], stderr=subprocess.DEVNULL
    ) as parent:
        try:
            wait_for_lock(lock)
            wait_for(
                job.log.with_suffix(".begun").exists
            )  # a job may run before its launcher has told the guard
            parent.send_signal(number)
            assert parent.wait(10) == code
        finally:
            parent.kill()
    wait_for(lambda: not locked(lock))


def test_a_guard_runs_what_it_was_told_and_not_untold(tmp_path: Path) -> None:
    kept, untold = ["touch", str(tmp_path / "kept")], ["touch", str(tmp_path / "untold")]
    guard = Guard()
    for told in (kept, untold, ["no-such-program"], untold):
        guard.tell(told)
    guard.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_child_that_heeds_no_signal_is_killed_when_the_context_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calmkit.launchers.guard.GRACE", 0.2)
    lock = tmp_path / "lock"
    job = python(tmp_path, ENDLESS, lock, "SIGINT", "SIGTERM")
    with Children() as children:
        children.start(job.command, job.log, {})
        wait_for_lock(lock)
    assert not locked(lock)


def test_what_a_job_leaves_behind_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    leave = (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-S', '-c', *sys.argv[1:]])\n"
        "while not (os.path.exists(sys.argv[2]) and os.path.getsize(sys.argv[2])): time.sleep(0.01)"
    )
    job = python(tmp_path, leave, ENDLESS, lock)
    assert run_command(job.command, job.log, {}) == 0
    wait_for(lambda: not locked(lock))


@pytest.fixture
def handler() -> Iterator[Callable[..., None]]:
    """A handler of SIGTERM that was there before."""
    before = signal.signal(signal.SIGTERM, there := lambda *_: None)
    yield there
    signal.signal(signal.SIGTERM, before)


def terminated() -> None:
    with terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals need the main thread"
)
def test_sigterm_leaves_and_its_handler_is_put_back(handler: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match="143"):
        terminated()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_run_command_notes_what_stopped_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"

    def time_is_up(self: Children) -> dict[int, int]:
        wait_for_lock(lock)
        raise RuntimeError("the time is up")

    monkeypatch.setattr(Children, "wait", time_is_up)
    job = python(tmp_path, ENDLESS, lock)
    assert run_command(job.command, job.log, {}) == 1
    assert log(job).endswith("launcher: stopped: the time is up\n")
    assert not locked(lock)


def test_variables_reach_the_command(tmp_path: Path) -> None:
    job = python(tmp_path, "import os; print(os.environ['ADDED'], 'PATH' in os.environ)")
    assert run_command(job.command, job.log, {"ADDED": "yes"}) == 0
    assert log(job) == "yes True\n"


def test_a_note_is_appended(tmp_path: Path) -> None:
    job = python(tmp_path, "")
    note(job.log, "one")
    note(job.log, "two")
    assert log(job) == "launcher: one\nlauncher: two\n"
