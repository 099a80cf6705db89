"""Children: processes in groups of their own, which write into logs and never outlive their parent.

Only the standard library is imported, so that a job on another machine starts without loading torch.

Source: setsid(2), and Python's subprocess. https://docs.python.org/3/library/subprocess.html
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType

from calmkit.launchers import guard

CANNOT_START = 127
"""Exit code of a command that can't be started, as shells give it."""


class Guard:
    """A process that outlives this one, however it ends, and then does what it was told and not untold."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )

    def tell(self, what: int | Sequence[str]) -> None:
        """Told once, a process group will be stopped, or a command be run; told again, it will not."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody killed the guard: no reason to end the study
            self._process.stdin.write(json.dumps(what).encode() + b"\n")

    def close(self) -> None:
        """Let it do what is left, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Children:
    """Processes that end with this one: to leave the context, in whatever way, stops those that still run.

    Each has a group of its own, so that Ctrl-C in a terminal reaches the parent alone and a child is stopped
    with all that it started. What an ended child leaves running is killed, for it would hold cores and
    accelerators that the next child is given.
    """

    def __init__(self) -> None:
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Children:
        self._guard = Guard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace  # stopped all the same
        try:
            guard.stop(list(self.running), self._reap)
        finally:  # a second signal may cut the stopping short: the guard has the rest
            self._guard.close()

    def start(self, command: Sequence[str], log: Path, variables: Mapping[str, str]) -> int | None:
        """Start one; what it writes is appended to a log.

        Args:
            command: Program and arguments.
            log: Its folder is made where there is none.
            variables: Added to the environment.

        Returns:
            The number of process and group, or None where it can't be started; the log then ends with why.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **variables},
                    start_new_session=True,
                )
            except OSError as error:
                note(log, f"{command[0]} can't be started: {error}")
                return None
        self.running[child.pid] = child
        self._guard.tell(child.pid)
        return child.pid

    def wait(self) -> dict[int, int]:
        """Exit codes of those that have ended, by number, as soon as there are any; empty where none runs."""
        codes = self._reap()
        while self.running and not codes:
            time.sleep(guard.POLL)
            codes = self._reap()
        return codes

    def _reap(self) -> dict[int, int]:
        codes = {pid: code for pid, child in self.running.items() if (code := child.poll()) is not None}
        for pid in codes:
            guard.send(pid, signal.SIGKILL)
            del self.running[pid]
            self._guard.tell(pid)
        return codes


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """While it lasts, SIGTERM raises SystemExit(143), by which children are stopped and locks given back.

    Off the main thread Python allows no handler, and SIGTERM ends the process as before; the guard sees it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def run_command(command: Sequence[str], log: Path, variables: Mapping[str, str]) -> int:
    """Run one command to its end, for launchers that start it through a function on another machine.

    An exception in between stops the command: submitit raises one when the time of a job is up.

    Args:
        command: Program and arguments.
        log: File that gets its output and its errors.
        variables: Added to the environment.

    Returns:
        The exit code, negative for the signal that killed it; 127 where it can't be started; 1 where it was
        stopped, for a reason that is then in the log.
    """
    try:
        with Children() as children:
            child = children.start(command, log, variables)
            return CANNOT_START if child is None else children.wait()[child]
    except Exception as error:
        note(log, f"stopped: {error}")
        return 1


def note(log: Path, reason: str) -> None:
    """Append the reason why a job is over to its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as out:
        out.write(f"launcher: {reason}\n")


def thread_variables(threads: int) -> dict[str, str]:
    """The environment that bounds a process's CPU threads; nothing where the user has set OMP_NUM_THREADS."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
