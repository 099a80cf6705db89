"""Guard: stops process groups, and is a process that does so when the one that started it dies.

A launcher that is killed outright can't stop its jobs. So it starts this file, holds the only other end of
the pipe that this file reads, and writes the number of each group there: once when it starts, once more when
it has ended. Whatever ends the launcher, the system closes the pipe, and the groups left are stopped. Jobs of
a cluster are no processes of this machine: for them it writes, in the same way, the command that ends them.

Only the standard library is imported: the file runs on its own, in a few milliseconds.

Source: pipe(7), end-of-file once all descriptors of the write end are closed.
https://man7.org/linux/man-pages/man7/pipe.7.html
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

GRACE = 5.0
"""Seconds between SIGINT and SIGTERM, and between SIGTERM and SIGKILL."""

POLL = 0.05
"""Seconds between two looks at processes."""

COMMAND = 60.0
"""Seconds that a command may take."""


def stop(groups: Iterable[int], look: Callable[[], object] = lambda: None) -> None:
    """Send SIGINT to process groups, after a grace SIGTERM, then SIGKILL; Ctrl-C cuts a grace short.

    Args:
        groups: Their numbers.
        look: Called before each look, for parents that have to reap their children.
    """
    left = set(groups)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(KeyboardInterrupt):
            left = {group for group in left if send(group, number)}
            end = time.monotonic() + GRACE
            while left and time.monotonic() < end:
                time.sleep(POLL)
                look()
                left = {group for group in left if send(group, 0)}


def send(group: int, number: int) -> bool:
    """Whether there is such a group, after sending it a signal; 0 sends none."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that is dead
        return False
    return True


def run(command: list[str]) -> None:
    """Run a command, whatever comes of it: nobody is left to be told."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=COMMAND, check=False)


def main() -> None:
    """Read lines until the pipe closes, then heed those that came an odd number of times: a number stops the
    group of that number, a list in JSON is a command to run.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # its time comes when those who get them are gone
    left: dict[str, None] = {}  # in the order in which they came
    for line in sys.stdin:
        if left.pop(line, True) is True:
            left[line] = None
    asked = [json.loads(line) for line in left]
    for command in (one for one in asked if isinstance(one, list)):
        run(command)
    stop(one for one in asked if isinstance(one, int))


if __name__ == "__main__":
    main()
